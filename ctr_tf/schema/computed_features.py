"""The features that the jobs compute for every data set."""

from ctr_tf.schema.feature import Feature
from ctr_tf.schema.kinds.bucketized import Bucketized
from ctr_tf.schema.kinds.numeric import Numeric


def computed_features(windows: tuple[str, ...]) -> tuple[Feature, ...]:
    """The features that the jobs compute, for these counter windows."""

    def count(name, role, description):
        return Numeric(
            name,
            role,
            "int64",
            transform="log1p",
            computed=True,
            description=description,
        )

    def elapsed(name, description):
        return Bucketized(
            name,
            "candidate",
            "int64",
            log2=True,
            computed=True,
            description=f"{description}, seconds; missing where it never was",
        )

    def clock(role, name, num_values, description):
        return Bucketized(
            name,
            role,
            "int64",
            num_values=num_values,
            computed=True,
            description=description,
        )

    return (
        clock("behavior", "hour", 24, "local hour of the behavior"),
        clock("behavior", "weekend", 2, "1 on Saturday and Sunday, local time"),
        clock("context", "hour", 24, "local hour of the request"),
        clock("context", "weekend", 2, "1 on Saturday and Sunday, local time"),
        count("slate_size", "context", "candidates of the request"),
        *(
            count(
                f"{what}_{window}",
                "candidate",
                f"{what} of the candidate in the last {window}",
            )
            for window in windows
            for what in ("impressions", "clicks")
        ),
        count(
            "user_impressions",
            "candidate",
            "times this user was shown the candidate before",
        ),
        count(
            "user_clicks", "candidate", "times this user clicked the candidate before"
        ),
        elapsed("since_shown", "time since this user was last shown the candidate"),
        elapsed("since_clicked", "time since this user last clicked the candidate"),
        elapsed("item_age", "time since the candidate's first impression"),
    )
