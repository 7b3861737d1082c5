"""nbgrader's configuration for this repository: `nbgrader generate_assignment`, `validate` and the formgrader work as they are.

Grading goes through `autograder grade`: nbgrader's own autograde believes what a kernel prints.
"""

from autograder.build import nbgrader_config

c = get_config()  # noqa: F821 - nbgrader defines it
c.merge(nbgrader_config())
