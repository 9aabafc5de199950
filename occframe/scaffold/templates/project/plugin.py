"""{{A_kind}} for occframe. Only registers: what is named here is imported when somebody uses it."""

from occframe import hookimpl


@hookimpl
def {{hook}}(register):
    register(
        "{{name}}",
        "{{package}}.component:{{factory}}",
        config={{config}},
        summary="{{summary}}",{{caps}}
    )
