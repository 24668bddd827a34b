// The engine listens on every address of the machine; preloaded, this keeps it on 127.0.0.1.
const net = require("net");
const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...args) {
  const done = args.find((one) => typeof one === "function");
  if (typeof args[0] === "number") {
    return listen.call(this, { port: args[0], host: "127.0.0.1" }, done);
  }
  if (args[0] !== null && typeof args[0] === "object" && "port" in args[0]) {
    return listen.call(this, { ...args[0], host: "127.0.0.1" }, done);
  }
  return listen.apply(this, args);
};
