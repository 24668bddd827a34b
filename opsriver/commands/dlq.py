"""``opsriver dlq``: list, show and send again what could not be read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from opsriver import target
from opsriver.errors import Problem
from opsriver.output import err, out, print_json
from opsriver.target import RegionOption, StackOption, StateOption
from schemas.dead_letters import DeadLetter

app = typer.Typer(help="Dead letters: what could not be read, and why.", no_args_is_help=True)

CodeOption = Annotated[str, typer.Option("--code", help="Only letters with this code, e.g. not-json.")]
DayOption = Annotated[str, typer.Option("--day", help="Only letters that arrived on this day (YYYY-MM-DD, UTC).")]
KeyOption = Annotated[str, typer.Option("--partition-key", help="Only this partition key; * and ? are wild.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def _told(where: target.Target) -> Iterator[None]:
    """What AWS refuses, as one sentence."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise Problem(f"the dead letters of {where.name} cannot be reached: {error}; check stack and rights") from None


def _letters(where: target.Target, day: str, code: str, partition_key: str) -> Iterator[DeadLetter]:
    import msgspec

    from consumers.dead_letters.store import DeadLetterStore

    if day and not _is_day(day):
        raise Problem(f"--day {day!r} is not a day; write it as YYYY-MM-DD")
    store = DeadLetterStore(where.client("s3"), where.output("DeadLetterBucketName"))
    for key in store.keys(day or None):
        try:
            letters = store.read(key)
        except msgspec.DecodeError:
            err.print(f"{key} holds no dead letters and is passed over", style="yellow", markup=False)
            continue
        for letter in letters:
            if code and letter.code != code:
                continue
            if partition_key and not fnmatchcase(letter.partition_key, partition_key):
                continue
            yield letter


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _one(where: target.Target, letter_id: str) -> DeadLetter:
    for letter in _letters(where, "", "", ""):
        if letter.letter_id == letter_id:
            return letter
    raise Problem(f"there is no dead letter {letter_id}; `opsriver dlq list` shows the ids")


def _redriver(where: target.Target) -> Any:
    from consumers.dead_letters.redrive import Redriver

    return Redriver(
        where.client("s3"),
        where.client("kinesis"),
        bucket=where.output("DeadLetterBucketName"),
        stream=where.output("EventStreamName"),
    )


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.letter_id,
        "arrivedAt": letter.arrived_at,
        "code": letter.code,
        "reason": letter.reason,
        "partitionKey": letter.partition_key,
        "stage": letter.stage,
        "bytes": len(letter.raw),
    }


def _given_up(where: target.Target) -> list[dict[str, Any]]:
    """Batches that a mapping gave up, peeked at in the queue (they stay there)."""
    import msgspec

    sqs, queue = where.client("sqs"), where.output("DeadLetterQueueUrl")
    found: dict[str, dict[str, Any]] = {}
    while True:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=2)
        new = [m for m in answer.get("Messages", []) if m["MessageId"] not in found]
        if not new:
            return list(found.values())
        for message in new:
            try:
                body = msgspec.json.decode(message["Body"])
            except msgspec.DecodeError:
                body = message["Body"]
            found[message["MessageId"]] = {"messageId": message["MessageId"], "body": body}


@app.command("list")
def list_letters(
    code: CodeOption = "",
    day: DayOption = "",
    partition_key: KeyOption = "",
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 100,
    as_json: JsonOption = False,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """List dead letters, and batches that a mapping gave up."""
    from itertools import islice

    from schemas.times import moment

    where = target.find(state, stack, region)
    with _told(where), err.status("reading"):
        letters = list(islice(_letters(where, day, code, partition_key), limit))
        batches = _given_up(where)
    if as_json:
        print_json({"letters": [_summary(letter) for letter in letters], "givenUpBatches": batches})
        return
    for letter in letters:  # no table: whoever goes on with an id needs it whole, on one line
        out.print(f"{moment(letter.arrived_at)}  {letter.code}  {_shown(letter.partition_key)}", soft_wrap=True)
        out.print(f"  {letter.reason}", highlight=False, soft_wrap=True)
        out.print(f"  {letter.letter_id}", style="dim", highlight=False, soft_wrap=True)
    out.print(f"{len(letters)} dead letters" + (f" (limit {limit})" if len(letters) == limit else ""), highlight=False)
    if batches:
        out.print(f"{len(batches)} messages in the dead-letter queue (batches given up); see --json", style="yellow")


def _shown(text: str, limit: int = 60) -> str:
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"


@app.command("show")
def show(
    letter_id: Annotated[str, typer.Argument(help="Id of the letter, from `opsriver dlq list`.")],
    raw: Annotated[Path | None, typer.Option(help="Write the bytes, as they came, to this file.")] = None,
    as_json: JsonOption = False,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Show one letter with its bytes."""
    import msgspec

    from schemas.times import moment

    where = target.find(state, stack, region)
    with _told(where), err.status("reading"):
        letter = _one(where, letter_id)
        marker = _redriver(where).marker(letter)
    if raw is not None:
        try:
            raw.write_bytes(letter.raw)
        except OSError as error:
            raise Problem(f"{raw} cannot be written: {error.strerror}; choose another file") from None
    if as_json:
        print_json({**msgspec.to_builtins(letter), "redriven": msgspec.to_builtins(marker)})
        return
    out.print(f"{letter.letter_id}: {letter.code}", markup=False)
    out.print(f"  reason         {letter.reason}", markup=False, soft_wrap=True)
    out.print(f"  arrived        {moment(letter.arrived_at)}", markup=False)
    out.print(f"  partition key  {_shown(letter.partition_key, 200)}", markup=False)
    out.print(f"  sent again     {marker.state if marker else 'no'}", markup=False)
    out.print(f"  {len(letter.raw)} bytes:", markup=False)
    out.print(_shown(letter.raw[:2000].decode(errors="replace"), 2000), markup=False, soft_wrap=True)


@app.command("redrive")
def redrive(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids of letters; or choose them by options.")] = None,
    mended: Annotated[Path | None, typer.Option("--with", help="Send the content of this file instead.")] = None,
    code: CodeOption = "",
    day: DayOption = "",
    partition_key: KeyOption = "",
    every: Annotated[bool, typer.Option("--all", help="Every letter that the other options leave.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be sent.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was sent, or half sent, before.")] = False,
    as_json: JsonOption = False,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Send letters again, each at most once; what would be refused again is not sent."""
    from botocore.exceptions import BotoCoreError, ClientError

    from consumers.dead_letters.redrive import AlreadyRedriven
    from stream_processors.records.batch import StreamRecord
    from stream_processors.records.decode import decode

    where = target.find(state, stack, region)
    if letter_ids:
        with _told(where), err.status("reading"):
            letters = [_one(where, letter_id) for letter_id in letter_ids]
    elif every or code or day or partition_key:
        with _told(where), err.status("reading"):
            letters = list(_letters(where, day, code, partition_key))
    else:
        raise Problem("nothing is chosen; name letters by id, or choose them with --code, --day, --partition-key, --all")
    if mended is not None and len(letters) != 1:
        raise Problem(f"--with mends one letter, {len(letters)} are chosen; name the one it belongs to")
    redriver = _redriver(where)
    told, failed = list[dict[str, Any]](), ""
    for letter in letters:
        try:
            data = mended.read_bytes() if mended else letter.raw
        except OSError as error:
            raise Problem(f"{mended} cannot be read: {error.strerror}; check the path") from None
        trial = decode([StreamRecord("redrive", "0", letter.partition_key, int(time.time() * 1000), data)])
        result: dict[str, Any] = {"id": letter.letter_id}
        if trial.dead_letters or not (len(trial) or trial.signals):
            reason = trial.dead_letters[0].reason if trial.dead_letters else "it holds no event"
            result |= {"result": "refused", "reason": f"would be refused again: {reason}"}
        elif dry_run:
            result |= {"result": "would-send", "reason": f"{len(trial)} metric values, {len(trial.signals)} signals"}
        else:
            try:
                marker = redriver.send(letter, data, again=again)
                result |= {"result": "sent", "reason": f"record {marker.sequence_number} of {marker.shard_id}"}
            except AlreadyRedriven as before:
                done = before.marker.state == "sent"
                result |= {
                    "result": "already-sent" if done else "unclear",
                    "reason": f"was sent as record {before.marker.sequence_number}"
                    if done
                    else "an earlier redrive was cut off; use --again if its events are not there",
                }
            except (ClientError, BotoCoreError) as error:
                failed = str(error)
                result |= {"result": "unclear", "reason": f"{failed}; use --again if its events are not there"}
        told.append(result)
        if failed:
            break
    if as_json:
        print_json({"letters": told})
    else:
        for result in told:
            out.print(f"{result['id']}  {result['result']}: {result['reason']}", markup=False, soft_wrap=True)
        out.print(f"{sum(r['result'] == 'sent' for r in told)} of {len(letters)} letters sent", highlight=False)
    if failed:
        raise Problem(f"{len(letters) - len(told)} letters were not tried after this: {failed}; check stack and rights")
    if told and all(result["result"] == "refused" for result in told):
        raise Problem("no letter was sent, as each would be refused again; mend the content and send it with --with FILE")
