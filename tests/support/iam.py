"""IAM's documented rules, as far as the policies of docs/iam.md need them.

No service of AWS was asked, and moto knows neither resources nor conditions of Session
Manager. Whatever is not understood raises: nothing is taken to match unseen.
"""

import re

ACCOUNT = "111122223333"
REGION = "eu-west-1"


def listed(value):
    return value if isinstance(value, list) else [value]


def allows(statements, action, resource, context):
    """Say whether ``statements`` allow ``action`` on ``resource``.

    Args:
        statements: A policy's; an explicit deny beats what is allowed.
        action: ``ssm:StartSession``, ...
        resource: Its ARN; ``*`` for actions without any.
        context: Condition keys and policy variables, with their values.
    """
    effects = {
        s["Effect"] for s in statements if _applies(s, action, resource, context)
    }
    assert effects <= {"Allow", "Deny"}
    return effects == {"Allow"}


def _applies(statement, action, resource, context):
    known = {"Sid", "Effect", "Action", "Resource", "Condition"}
    assert statement.keys() <= known, statement.keys() - known
    return (
        any(_like(p.lower(), action.lower()) for p in listed(statement["Action"]))
        and any(
            _like(_substitute(pattern, context), resource)
            for pattern in listed(statement["Resource"])
        )
        and all(
            _holds(operator, key, listed(wanted), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator, key, wanted, context):
    if operator == "ForAllValues:StringLike":
        # Of several values each must match; a request without any passes.
        patterns = [_substitute(value, context) for value in wanted]
        return all(
            any(_like(pattern, value) for pattern in patterns)
            for value in context.get(key, ())
        )
    plain = operator.removesuffix("IfExists")
    if key not in context:
        return plain != operator
    found = context[key]
    wanted = [_substitute(value, context) for value in wanted]
    match plain:
        case "StringEquals" | "Bool":
            return found in wanted
        case "StringLike":
            return any(_like(pattern, found) for pattern in wanted)
        case "ArnEquals" | "ArnLike":
            # Each of the six parts by itself: a star does not cross a colon.
            parts = found.split(":", 5)
            return any(
                len(parts) == len(pattern.split(":", 5))
                and all(map(_like, pattern.split(":", 5), parts))
                for pattern in wanted
            )
    raise ValueError(operator)


def _substitute(pattern, context):
    # A variable without a value makes the whole statement apply to nothing.
    return re.sub(r"\$\{([\w:]+)\}", lambda m: context.get(m[1], "\0nobody\0"), pattern)


def _like(pattern, text):
    words = re.split(r"([*?])", pattern)
    expression = "".join({"*": ".*", "?": "."}.get(w, re.escape(w)) for w in words)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def target_arn(target):
    """Return the ARN of what a session is started to."""
    if target.startswith("ecs:"):
        cluster, task, _ = target.removeprefix("ecs:").rsplit("_", 2)
        return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{cluster}/{task}"
    if target.startswith("mi-"):
        return f"arn:aws:ssm:{REGION}:{ACCOUNT}:managed-instance/{target}"
    return f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{target}"


def resources(operation, body):
    """Return the resources that a call of the SSM API needs, every one of them."""
    match operation:
        case "StartSession":
            document = body.get("DocumentName", "SSM-SessionManagerRunShell")
            if not document.startswith("arn:"):
                # AWS's own documents belong to no account.
                owner = "" if document.startswith("AWS-") else ACCOUNT
                document = f"arn:aws:ssm:{REGION}:{owner}:document/{document}"
            return [target_arn(body["Target"]), document]
        case "ResumeSession" | "TerminateSession":
            return [f"arn:aws:ssm:{REGION}:{ACCOUNT}:session/{body['SessionId']}"]
    return ["*"]
