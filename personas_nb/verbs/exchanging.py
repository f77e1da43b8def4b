"""Verbs that exchange personas with the world: import a file, an address or a folder; export one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from personas_nb.verbs.call import Call, noted
from personas_nb.views.view import View


def import_(call: Call) -> View:
    """Read a persona out of a file, an address or a folder; with ``--apply`` make it one."""
    from personas_nb.views.design import flow_markdown
    from personas_nb.views.imports import folder_table, import_card

    source = call["source"]
    if not re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE) and Path(source).expanduser().is_dir():
        files = call.studio.importers.folder(source, format=call["as"], apply=call["apply"])
        return folder_table(source, files, applied=call["apply"])
    report = call.studio.importers.read(source, format=call["as"])
    session = report.session
    call.desk.session_id = session.id
    if call["apply"]:
        from personas_nb.verbs.designing import apply
        from personas_nb.views.marks import plural

        call.arguments |= {"name": None, "session": session.id}
        applied = apply(call)
        left = plural(len(report.of("needs_human")), "thing")
        said = f"The import left {left} for you: `%persona import` without --apply lists them."
        return noted(applied, said if report.of("needs_human") else "")
    draft = session.result or report.draft
    flow = (flow_markdown(draft.flow),) if draft.flow.steps else ()
    return replace(import_card(replace(report, draft=draft), session_id=session.id), value=report, also=flow)


def export(call: Call) -> View:
    """Write a persona to a file."""
    from personas_nb.views.imports import export_card

    exported = call.studio.export(call["name"], call["path"], format=call["as"], overwrite=call["overwrite"])
    return export_card(exported)
