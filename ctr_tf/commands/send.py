"""`ctr-tf send`: a split's samples as messages of a Kafka topic, by their time.

    ctr-tf send --data DATA --split test --stream HOST:PORT --topic samples
    ctr-tf train --from RUN … --stream HOST:PORT --topics samples --to_end

To replay a log as a stream: what `ctr-tf train --stream` reads is what `prepare`
writes. Messages have the user's id as their key, so that a user's samples stay in their
order.
"""

from ctr_tf.commands.arguments import Parser
from ctr_tf.errors import check_positive_options


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("send", __doc__)
    add = parser.add_argument
    parser.add_data()
    add("--split", default="test", help="of the data")
    add("--stream", metavar="HOST:PORT", required=True, help="a Kafka broker")
    add("--topic", required=True, help="of the broker")
    add("--rate", type=float, help="samples a second at most")
    return parser


def main(argv: list[str]) -> int:
    """Sends by the command line."""
    options = parser().parse_args(argv)
    if options.rate is not None:
        check_positive_options(options, "rate")
    from ctr_tf.data.prepared import PreparedData
    from ctr_tf.data.send import send

    data = PreparedData.load(options.data)
    sent = send(data, options.split, options.stream, options.topic, options.rate)
    print(f"{sent:,} samples of '{options.split}' sent to '{options.topic}'")
    return 0
