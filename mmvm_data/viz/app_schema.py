"""Schema of a benchmark in the App: fields with their meaning, groups of the sidebar, colors, saved views."""

from __future__ import annotations

from typing import Any, get_args

from mmvm_data.core.types import MATCH_TYPES, Review
from mmvm_data.formats.predictions import NONE
from mmvm_data.viz import findings
from mmvm_data.viz.case_tags import REJECT
from mmvm_data.viz.samples import DRAWN, FACTS, LAST, OBJECT_FACTS

GROUP = "group"
COLORS = {"query": "#00ffff", "answer": "#2ee66b", "look-alike": "#ff9f1c", "other": "#a78bfa"}
"""By role; cyan is the query's color in the drawn images too."""
LEGEND = (
    "Objects: query cyan, right candidate green, look-alikes (of the query's category) orange, others violet; labels "
    "are the numbers. Choices of models: green right, red wrong. Match types: "
    + ", ".join(" ".join(names) for names in MATCH_TYPES.values())
)
"""Description of the data set, which the App shows."""
RIGHT, WRONG = "#2ee66b", "#ff4d4d"
STATES = get_args(Review.model_fields["state"].annotation)
STATE_COLORS = dict(zip(STATES, ("#8899aa", "#2ee66b", "#33b5ff", "#ffc233", "#ff4d4d"), strict=True))
MODELS = ("models_right", "models_wrong", "models_differ")
"""Fields over all models with answers: how many are right and wrong, and whether their answers differ."""


def add_fields(fo: Any, dataset: Any) -> None:
    """Declare every field, so that empty fields exist too; existing fields are kept."""
    dataset.add_group_field(GROUP, default=LAST)
    field_types = {
        "text": (fo.StringField, {}),
        "texts": (fo.ListField, {"subfield": fo.StringField}),
        "integer": (fo.IntField, {}),
        "integers": (fo.ListField, {"subfield": fo.IntField}),
        "number": (fo.FloatField, {}),
        "yes/no": (fo.BooleanField, {}),
    }
    known = dataset.get_field_schema(flat=True)
    for fact in FACTS:
        if fact.name not in known:
            field_type, options = field_types[fact.kind]
            dataset.add_sample_field(fact.name, field_type, description=fact.meaning, **options)
    if DRAWN not in known:
        dataset.add_sample_field(DRAWN, fo.StringField, description="the image with its marks, as models see it")
    objects = {"query": "the object that is asked for", LAST: "the marked objects with their numbers"}
    for name, meaning in objects.items():
        if name not in known:
            dataset.add_sample_field(
                name, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections, description=meaning
            )
        for attribute, kind_name in OBJECT_FACTS.items():
            path = f"{name}.detections.{attribute}"
            if path not in known:
                dataset.add_sample_field(path, field_types[kind_name][0])
    indexes = set(dataset.list_indexes())
    if "key" not in indexes:
        dataset.create_index("key", unique=True)
    if "case_id" not in indexes:
        dataset.create_index("case_id")


def add_model(fo: Any, dataset: Any, model: str, field: str) -> None:
    """Declare the fields of a model: its answer, and the box of the candidate that it chose."""
    known = dataset.get_field_schema(flat=True)
    if field not in known:
        dataset.add_sample_field(
            field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification, description=f"answer of {model}"
        )
    for name, kind in (("correct", fo.BooleanField), ("letter", fo.StringField), ("text", fo.StringField)):
        if f"{field}.{name}" not in known:
            dataset.add_sample_field(f"{field}.{name}", kind)
    if choice_field(field) not in known:
        dataset.add_sample_field(
            choice_field(field),
            fo.EmbeddedDocumentField,
            embedded_doc_type=fo.Detection,
            description=f"the candidate that {model} chose",
        )
        dataset.add_sample_field(f"{choice_field(field)}.verdict", fo.StringField)
    for name, kind in zip(MODELS, (fo.IntField, fo.IntField, fo.BooleanField), strict=True):
        if name not in known:
            dataset.add_sample_field(name, kind)


def choice_field(field: str) -> str:
    """Return the name of the field with the box that a model chose."""
    return field.replace("model_", "choice_", 1)


def configure_app(fo: Any, dataset: Any, models: dict[str, str]) -> None:
    """Set sidebar, colors and saved views; views that people saved under other names are kept.

    Args:
        models: field -> name of the model.
    """
    dataset.description = LEGEND
    config = dataset.app_config
    config.media_fields = ["filepath", DRAWN]
    config.grid_media_field = config.modal_media_field = "filepath"
    config.media_fallback = True
    config.color_scheme = fo.ColorScheme(
        color_by="value",
        opacity=0.45,
        fields=[
            *({"path": name, **_color_by("role", COLORS)} for name in ("query", LAST)),
            *({"path": name, **_color_by("correct", {"True": RIGHT, "False": WRONG})} for name in models),
            *(
                {"path": choice_field(name), **_color_by("verdict", {"right": RIGHT, "wrong": WRONG})}
                for name in models
            ),
            {"path": "review_state", **_color_by(None, STATE_COLORS)},
        ],
    )
    active_fields = ["tags", "query", LAST, "answer", "category", "review_state", *models, *map(choice_field, models)]
    config.active_fields = fo.ActiveFields(paths=active_fields)
    groups = [
        ("tags", ["tags", "_label_tags"], True),
        ("objects", ["query", LAST], True),
        ("findings", list(findings.FINDINGS), True),
        ("models", [*models, *map(choice_field, models), *(MODELS if models else ())], True),
        *((name, [fact.name for fact in FACTS if fact.group == name], name != "provenance") for name in _fact_groups()),
        ("more", ["id", GROUP, "filepath", DRAWN, *(f.name for f in FACTS if not f.group)], False),
        (
            "metadata",
            [f"metadata.{name}" for name in ("size_bytes", "mime_type", "width", "height", "num_channels")],
            False,
        ),
    ]
    known = dataset.get_field_schema()
    grouped = {path.split(".")[0] for _, paths, _ in groups for path in paths}
    groups[-2][1].extend(name for name in known if name not in grouped)
    config.sidebar_groups = [
        fo.SidebarGroupDocument(name=name, paths=paths, expanded=expanded) for name, paths, expanded in groups if paths
    ]
    dataset.save()
    for name, (view, meaning) in saved_views(fo, dataset, models).items():
        dataset.save_view(name, view, description=meaning, overwrite=True)


def saved_views(fo: Any, dataset: Any, models: dict[str, str]) -> dict[str, tuple[Any, str]]:
    """Return the name of each saved view -> the view, and its description."""
    field = fo.ViewField
    hardest_first = [("look_alikes", -1), ("candidate_count", -1), ("query_share", 1), ("case_id", 1)]
    if models:
        hardest_first.insert(0, ("models_wrong", -1))
    views = {
        "hardest": (
            dataset.sort_by(hardest_first),
            "most models wrong, then most look-alikes, most candidates, smallest query first",
        ),
        "none of the above": (dataset.match(field("answer") == NONE), "no candidate is right"),
    }
    for path, model in models.items():
        views[f"wrong by {model}"] = (dataset.match(field(f"{path}.correct") == False), "any wrong answer")  # noqa: E712
    if models:
        views["wrong by all models"] = (
            dataset.match((field("models_wrong") > 0) & (field("models_right") == 0)),
            "hard, or the case's answer is wrong",
        )
        views["baselines right, models wrong"] = (
            dataset.match((field("baseline_hits") > 0) & (field("models_wrong") > 0)),
            "a blind rule names the right option, and a model does not",
        )
        views["disagreements"] = (dataset.match(field("models_differ") == True), "the answers of the models differ")  # noqa: E712
    views |= findings.saved_views(fo, dataset)
    for state in STATES:
        condition = field("review_state") == state
        meaning = f"review is {state}"
        if state == "rejected":
            condition |= field("tags").contains(REJECT)
            meaning += f", or tagged {REJECT}"
        views[state] = (dataset.match(condition), meaning)
    return views


def _color_by(attribute: str | None, colors: dict[str, str]) -> dict[str, Any]:
    values = [{"value": value, "color": color} for value, color in colors.items()]
    return {"valueColors": values} | ({"colorByAttribute": attribute} if attribute else {})


def _fact_groups() -> list[str]:
    return [name for name in dict.fromkeys(fact.group for fact in FACTS) if name]
