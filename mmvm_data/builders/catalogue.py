"""The sources by name, and what ``mmvm-data sources`` shows of each. A new one is a file beside this one and an entry
here."""

from __future__ import annotations

from mmvm_data.builders.clips import open_clips
from mmvm_data.builders.mot import open_mot
from mmvm_data.builders.palette import open_davis, open_davis2016, open_frames, open_mose, open_ytvos
from mmvm_data.builders.sav import open_sav, open_sav_auto
from mmvm_data.builders.source import Spec
from mmvm_data.builders.ytvis import open_ytvis

_REAL, _PART, _MADE = "real files", "a part of the real files", "files made to the specification"
_SEE = "see its page"

SOURCES: dict[str, Spec] = {
    "davis": Spec(
        open_davis,
        "DAVIS 2017",
        "[DAVIS/]JPEGImages/480p/<video>/*.jpg and Annotations/480p/<video>/*.png (other resolutions, and "
        "Annotations_unsupervised, work too)",
        "https://davischallenge.org/davis2017/code.html",
        "CC BY 4.0 for the sequences its authors own (package README)",
        "mask",
        _PART,
    ),
    "davis2016": Spec(
        open_davis2016,
        "DAVIS 2016",
        "as DAVIS 2017, masks of 0 and 255; one object a video, so give --min-candidates 1",
        "https://davischallenge.org/davis2016/code.html",
        "CC BY 4.0 for the sequences its authors own (package README)",
        "mask",
        _PART,
    ),
    "mose": Spec(
        open_mose,
        "MOSE",
        "[train/ or valid/]JPEGImages/<video>/*.jpg and Annotations/<video>/*.png",
        "https://henghuiding.github.io/MOSE/",
        "CC BY-NC-SA 4.0",
        "mask",
        _MADE,
    ),
    "ytvos": Spec(
        open_ytvos,
        "YouTube-VOS 2018 and 2019",
        "[train/]JPEGImages/<video>/*.jpg, Annotations/<video>/*.png (every fifth frame) and meta.json; all frames may "
        "lie in train_all_frames",
        "https://youtube-vos.org/dataset/vos/",
        _SEE,
        "mask",
        _MADE,
    ),
    "ytvis": Spec(
        open_ytvis,
        "YouTube-VIS 2019",
        "a JSON file of videos, categories and annotations, and JPEGImages/<video>/*.jpg; or --root FILE.json",
        "https://youtube-vos.org/dataset/vis/",
        _SEE,
        "mask",
        _MADE,
    ),
    "ytvis2021": Spec(
        open_ytvis,
        "YouTube-VIS 2021",
        "as YouTube-VIS 2019; <split>/instances.json",
        "https://youtube-vos.org/dataset/vis/",
        _SEE,
        "mask",
        _MADE,
    ),
    "ovis": Spec(
        open_ytvis,
        "OVIS",
        "annotations_train.json and train/<video>/*.jpg",
        "https://songbai.site/ovis/",
        _SEE,
        "mask",
        _MADE,
    ),
    "lvvis": Spec(
        open_ytvis,
        "LV-VIS",
        "train_instances.json and train/JPEGImages/<video>/*.jpg",
        "https://github.com/haochenheheda/LVVIS",
        _SEE,
        "mask",
        _MADE,
    ),
    "uvo": Spec(
        open_ytvis,
        "UVO",
        "VideoDenseSet/UVO_video_train_dense.json and frames in uvo_videos_frames/<video>/*.png",
        "https://sites.google.com/view/unidentified-video-object/",
        _SEE,
        "mask",
        _MADE,
    ),
    "sav": Spec(
        open_sav,
        "SA-V, manual masklets; val and test",
        "<video>_manual.json beside <video>.mp4 or its frames; or JPEGImages_24fps and Annotations_6fps",
        "https://ai.meta.com/datasets/segment-anything-video/",
        "CC BY 4.0",
        "mask",
        _PART,
    ),
    "sav_auto": Spec(
        open_sav_auto,
        "SA-V, automatic masklets",
        "<video>_auto.json beside <video>.mp4 or its frames",
        "https://ai.meta.com/datasets/segment-anything-video/",
        "CC BY 4.0",
        "mask",
        _PART,
    ),
    "mot17": Spec(
        open_mot,
        "MOT17",
        "[train/]<sequence>/img1/*.jpg, gt/gt.txt, seqinfo.ini; a sequence that is there for several detectors is read "
        "once",
        "https://motchallenge.net/data/MOT17/",
        "CC BY-NC-SA 3.0",
        "box",
        _PART,
    ),
    "mot20": Spec(
        open_mot, "MOT20", "as MOT17", "https://motchallenge.net/data/MOT20/", "CC BY-NC-SA 3.0", "box", _MADE
    ),
    "dancetrack": Spec(
        open_mot,
        "DanceTrack",
        "as MOT17",
        "https://dancetrack.github.io/",
        _SEE,
        "box",
        _MADE,
    ),
    "sportsmot": Spec(
        open_mot,
        "SportsMOT",
        "as MOT17",
        "https://deeperaction.github.io/datasets/sportsmot.html",
        "CC BY-NC 4.0",
        "box",
        _PART,
    ),
    "frames": Spec(
        open_frames,
        "your own frames and PNG masks",
        "JPEGImages, images or frames beside Annotations, masks or annotations, a folder a video (or one video alone)",
        "",
        "yours",
        "mask",
        _REAL,
    ),
    "video": Spec(
        open_clips,
        "your own video files and PNG masks",
        "x.mp4 and, numbered by frame from 0, Annotations/[res/]x/*.png, masks/x, x_masks, x_mask or x/",
        "",
        "yours",
        "mask",
        _REAL,
    ),
}
SOURCES["davis2017"] = SOURCES["davis"]
