"""Problems that a person can mend, told in one sentence."""


class Problem(Exception):
    """Something is wrong with the input or the machine; the text names the value and the remedy.

    The command line prints the text and exits with status 2.
    """
