"""Says what a run of the suite came to: report.py JUNIT..."""

import sys
import xml.etree.ElementTree as xml

passed, failed = [], []
for path in sys.argv[1:]:
    for case in xml.parse(path).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        failure = case.find("failure")
        (passed if failure is None else failed).append((case.get("name"), "" if failure is None else failure.text or ""))
for name, _ in sorted(passed):
    print(f"pass  {name}")
for name, text in sorted(failed):
    print(f"FAIL  {name}\n        " + "\n        ".join(text.strip().splitlines()[-12:]))
print(f"{len(passed)} passed, {len(failed)} failed")
