"""The sources by name, and what ``mmvm-data sources`` prints of each.

A new source is a file beside this one and an entry here.
"""

from __future__ import annotations

from mmvm_data.builders.bdd100k import open_bdd100k, open_bdd100k_seg
from mmvm_data.builders.burst import open_burst
from mmvm_data.builders.coco import open_coco
from mmvm_data.builders.mot import open_mot
from mmvm_data.builders.mots import open_mots
from mmvm_data.builders.multiview import open_multiview
from mmvm_data.builders.own_data import OWN_DATA
from mmvm_data.builders.oxuva import open_oxuva
from mmvm_data.builders.palette import open_davis, open_davis2016, open_mose, open_ytvos
from mmvm_data.builders.panoptic import open_panoptic
from mmvm_data.builders.reid import open_reid
from mmvm_data.builders.sa1b import open_sa1b, open_sa1b_images
from mmvm_data.builders.sav import open_sav, open_sav_auto
from mmvm_data.builders.sot import open_sot
from mmvm_data.builders.source import SourceSpec
from mmvm_data.builders.tao import open_tao
from mmvm_data.builders.trackingnet import open_trackingnet
from mmvm_data.builders.uav123 import open_uav123
from mmvm_data.builders.videocube import open_videocube
from mmvm_data.builders.vipseg import open_vipseg
from mmvm_data.builders.vot import open_vot
from mmvm_data.builders.ytvis import open_ytvis

_REAL_FILES, _PARTIAL_FILES, _SPECIFICATION = (
    "real files",
    "a part of the real files",
    "files made to the specification",
)
_SEE_PAGE = "see its page"
_ONE = "; one object per video, so use --proposals or --min-candidates 1"

SOURCES: dict[str, SourceSpec] = {
    "davis": SourceSpec(
        open_davis,
        "DAVIS 2017",
        "[DAVIS/]JPEGImages/480p/<video>/*.jpg and Annotations/480p/<video>/*.png (other resolutions, and "
        "Annotations_unsupervised, work too)",
        "https://davischallenge.org/davis2017/code.html",
        "CC BY 4.0 for the sequences its authors own (package README)",
        "mask",
        _PARTIAL_FILES,
    ),
    "davis2016": SourceSpec(
        open_davis2016,
        "DAVIS 2016",
        "as DAVIS 2017, masks of 0 and 255; one object per video, so use --min-candidates 1",
        "https://davischallenge.org/davis2016/code.html",
        "CC BY 4.0 for the sequences its authors own (package README)",
        "mask",
        _PARTIAL_FILES,
    ),
    "mose": SourceSpec(
        open_mose,
        "MOSE",
        "[train/ or valid/]JPEGImages/<video>/*.jpg and Annotations/<video>/*.png",
        "https://henghuiding.github.io/MOSE/",
        "CC BY-NC-SA 4.0",
        "mask",
        _SPECIFICATION,
    ),
    "ytvos": SourceSpec(
        open_ytvos,
        "YouTube-VOS 2018 and 2019",
        "[train/]JPEGImages/<video>/*.jpg, Annotations/<video>/*.png (every fifth frame) and meta.json; all frames may "
        "be in train_all_frames",
        "https://youtube-vos.org/dataset/vos/",
        _SEE_PAGE,
        "mask",
        _SPECIFICATION,
    ),
    "ytvis": SourceSpec(
        open_ytvis,
        "YouTube-VIS 2019",
        "a JSON file of videos, categories and annotations, and JPEGImages/<video>/*.jpg; or --root FILE.json",
        "https://youtube-vos.org/dataset/vis/",
        _SEE_PAGE,
        "mask",
        _SPECIFICATION,
    ),
    "ytvis2021": SourceSpec(
        open_ytvis,
        "YouTube-VIS 2021",
        "as YouTube-VIS 2019; <split>/instances.json",
        "https://youtube-vos.org/dataset/vis/",
        _SEE_PAGE,
        "mask",
        _SPECIFICATION,
    ),
    "ovis": SourceSpec(
        open_ytvis,
        "OVIS",
        "annotations_train.json and train/<video>/*.jpg",
        "https://songbai.site/ovis/",
        _SEE_PAGE,
        "mask",
        _SPECIFICATION,
    ),
    "lvvis": SourceSpec(
        open_ytvis,
        "LV-VIS",
        "train_instances.json and train/JPEGImages/<video>/*.jpg",
        "https://github.com/haochenheheda/LVVIS",
        _SEE_PAGE,
        "mask",
        _SPECIFICATION,
    ),
    "uvo": SourceSpec(
        open_ytvis,
        "UVO",
        "VideoDenseSet/UVO_video_train_dense.json and frames in uvo_videos_frames/<video>/*.png",
        "https://sites.google.com/view/unidentified-video-object/",
        _SEE_PAGE,
        "mask",
        _SPECIFICATION,
    ),
    "sav": SourceSpec(
        open_sav,
        "SA-V, manual masklets; val and test",
        "<video>_manual.json beside <video>.mp4 or its frames; or JPEGImages_24fps and Annotations_6fps",
        "https://ai.meta.com/datasets/segment-anything-video/",
        "CC BY 4.0",
        "mask",
        _PARTIAL_FILES,
    ),
    "sav_auto": SourceSpec(
        open_sav_auto,
        "SA-V, automatic masklets",
        "<video>_auto.json beside <video>.mp4 or its frames",
        "https://ai.meta.com/datasets/segment-anything-video/",
        "CC BY 4.0",
        "mask",
        _PARTIAL_FILES,
    ),
    "mot17": SourceSpec(
        open_mot,
        "MOT17",
        "[train/]<sequence>/img1/*.jpg, gt/gt.txt, seqinfo.ini; a sequence that exists for several detectors is read "
        "once",
        "https://motchallenge.net/data/MOT17/",
        "CC BY-NC-SA 3.0",
        "box",
        _PARTIAL_FILES,
    ),
    "mot20": SourceSpec(
        open_mot, "MOT20", "as MOT17", "https://motchallenge.net/data/MOT20/", "CC BY-NC-SA 3.0", "box", _SPECIFICATION
    ),
    "dancetrack": SourceSpec(
        open_mot,
        "DanceTrack",
        "as MOT17",
        "https://dancetrack.github.io/",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "sportsmot": SourceSpec(
        open_mot,
        "SportsMOT",
        "as MOT17",
        "https://deeperaction.github.io/datasets/sportsmot.html",
        "CC BY-NC 4.0",
        "box",
        _PARTIAL_FILES,
    ),
    "burst": SourceSpec(
        open_burst,
        "BURST",
        "train/train.json (or val/all_classes.json) and frames/<split>/<dataset>/<sequence>/*.jpg; or --root FILE.json",
        "https://github.com/Ali2500/BURST-benchmark",
        "MIT for the annotations; images as their sets have it",
        "mask",
        _SPECIFICATION,
    ),
    "tao": SourceSpec(
        open_tao,
        "TAO",
        "annotations/train.json (or validation.json) and frames/<file_name>; or --root FILE.json",
        "https://taodataset.org/",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "vipseg": SourceSpec(
        open_vipseg,
        "VIPSeg",
        "[VIPSeg/]imgs/<video>/*.jpg, panomasks/<video>/*.png and panoVIPSeg_categories.json (images/ at 720p)",
        "https://github.com/VIPSeg-Dataset/VIPSeg-Dataset",
        _SEE_PAGE,
        "mask",
        _SPECIFICATION,
    ),
    "mots": SourceSpec(
        open_mots,
        "MOTSChallenge and KITTI MOTS",
        "[train/]<sequence>/img1/*.jpg and gt/gt.txt; or image_02/<sequence>/*.png beside instances_txt/<sequence>.txt "
        "or instances/<sequence>/*.png",
        "https://www.vision.rwth-aachen.de/page/mots",
        "CC BY-NC-SA 3.0",
        "mask",
        _SPECIFICATION,
    ),
    "bdd100k": SourceSpec(
        open_bdd100k,
        "BDD100K, box tracking",
        "images/track/<split>/<video>/*.jpg and labels/box_track_20/<split>/<video>.json",
        "https://www.bdd100k.com/",
        "its own (education, research, not for profit; commercial for members of BDD)",
        "box",
        _SPECIFICATION,
    ),
    "bdd100k_seg": SourceSpec(
        open_bdd100k_seg,
        "BDD100K, segmentation tracking",
        "images/seg_track_20/<split>/<video>/*.jpg and labels/seg_track_20/bitmasks/<split>/<video>/*.png (or "
        "rles/<split>/<video>.json)",
        "https://www.bdd100k.com/",
        "its own (education, research, not for profit; commercial for members of BDD)",
        "mask",
        _SPECIFICATION,
    ),
    "lasot": SourceSpec(
        open_sot,
        "LaSOT",
        f"[<class>/]<class-n>/img/*.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt{_ONE}",
        "http://vision.cs.stonybrook.edu/~lasot/",
        _SEE_PAGE,
        "box",
        _PARTIAL_FILES,
    ),
    "got10k": SourceSpec(
        open_sot,
        "GOT-10k",
        f"[train/]<sequence>/*.jpg, groundtruth.txt, absence.label, cover.label, meta_info.ini{_ONE}",
        "http://got-10k.aitestunion.com/",
        "CC BY-NC-SA 4.0",
        "box",
        _SPECIFICATION,
    ),
    "vot": SourceSpec(
        open_vot,
        "VOT challenges",
        f"<sequence>/[color/]*.jpg and groundtruth.txt of rectangles, polygons (read as boxes) or masks{_ONE}",
        "https://www.votchallenge.net/",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "uav123": SourceSpec(
        open_uav123,
        "UAV123, at 30 or 10 frames a second",
        f"data_seq/UAV123/<sequence>/*.jpg, anno/UAV123/<sequence>.txt and configSeqs.m, for parts of videos{_ONE}",
        "https://cemse.kaust.edu.sa/ivul/uav123",
        _SEE_PAGE,
        "box",
        _PARTIAL_FILES,
    ),
    "utb180": SourceSpec(
        open_sot,
        "UTB180",
        f"<sequence>/imgs/*.jpg and groundtruth_rect.txt{_ONE}",
        "https://www.kaggle.com/datasets/bashakamran/utb180",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "otb": SourceSpec(
        open_sot,
        "OTB-50, OTB-100",
        f"<sequence>/img/*.jpg and groundtruth_rect.txt (or .1.txt and .2.txt){_ONE}",
        "http://cvlab.hanyang.ac.kr/tracker_benchmark/",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "oxuva": SourceSpec(
        open_oxuva,
        "OxUvA, dev",
        "images/dev/<video>/*.jpeg and annotations/dev.csv; most videos have one object, so use --proposals or "
        "--min-candidates 1",
        "https://oxuva.github.io/long-term-tracking-benchmark/",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "videocube": SourceSpec(
        open_videocube,
        "VideoCube",
        f"data/<split>/<sequence>/frame_<sequence>/*.jpg, attribute/groundtruth/*.txt, attribute/absent/*.txt{_ONE}",
        "http://videocube.aitestunion.com/",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "vasttrack": SourceSpec(
        open_sot,
        "VastTrack",
        f"[train/]<class>/<class-n>/imgs/*.jpg and Groundtruth.txt{_ONE}",
        "https://github.com/HengLan/VastTrack",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "trackingnet": SourceSpec(
        open_trackingnet,
        "TrackingNet",
        f"TRAIN_<n>/frames/<sequence>/*.jpg and TRAIN_<n>/anno/<sequence>.txt{_ONE}",
        "https://tracking-net.org/",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "wildtrack": SourceSpec(
        open_multiview,
        "WildTrack (two cameras at one instant)",
        "Image_subsets/C<n>/*.png and annotations_positions/*.json",
        "https://www.epfl.ch/labs/cvlab/data/data-wildtrack/",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "multiviewx": SourceSpec(
        open_multiview,
        "MultiviewX (two cameras at one instant)",
        "as WildTrack",
        "https://github.com/hou-yz/MultiviewX",
        _SEE_PAGE,
        "box",
        _SPECIFICATION,
    ),
    "sa1b": SourceSpec(
        open_sa1b,
        "SA-1B (two views of one image: crop, scale, flip, turn, colour, blur, something in front)",
        "sa_<n>.jpg beside sa_<n>.json",
        "https://ai.meta.com/datasets/segment-anything/",
        "SA-1B Dataset Research License",
        "mask",
        _PARTIAL_FILES,
        open_images=open_sa1b_images,
    ),
    "sa1b_published": SourceSpec(
        open_sa1b,
        "SA-1B, two views as CoLVA was trained on (they differ by a turn)",
        "as sa1b",
        "https://ai.meta.com/datasets/segment-anything/",
        "SA-1B Dataset Research License",
        "mask",
        _PARTIAL_FILES,
        open_images=open_sa1b_images,
    ),
    "coco": SourceSpec(
        open_coco,
        "COCO (two views of one image, as sa1b)",
        "annotations/instances_train2017.json and train2017/*.jpg; or --root FILE.json",
        "https://cocodataset.org/",
        "CC BY 4.0 for the annotations; images under Flickr's terms of use",
        "mask",
        _PARTIAL_FILES,
    ),
    "coco_published": SourceSpec(
        open_coco,
        "COCO, two views as sa1b_published",
        "as coco",
        "https://cocodataset.org/",
        "CC BY 4.0 for the annotations; images under Flickr's terms of use",
        "mask",
        _PARTIAL_FILES,
    ),
    "coco_panoptic": SourceSpec(
        open_panoptic,
        "COCO panoptic (two views of an image); things",
        "annotations/panoptic_<split>.json and PNGs in annotations/panoptic_<split>/, images in <split>/; other names "
        "are found by content; or --root FILE.json",
        "https://cocodataset.org/#panoptic-2018",
        "CC BY 4.0 for the annotations; images as Flickr has it",
        "mask",
        _PARTIAL_FILES,
    ),
    "saco": SourceSpec(
        open_coco,
        "SA-Co/Gold and SA-Co/Silver (two views of an image); the noun phrase is the category",
        "a JSON file of images (with text_input) and annotations, and the images; or --root FILE.json. SA-Co/VEval: "
        "--source ytvis",
        "https://huggingface.co/datasets/facebook/SACo-Gold",
        _SEE_PAGE,
        "mask",
        _SPECIFICATION,
    ),
    "reid": SourceSpec(
        open_reid,
        "Market-1501, DukeMTMC-reID and sets like them (crops of people, laid out on sheets)",
        "bounding_box_train/<identity>_c<camera>*.jpg; or ann.txt of <path> <identity> and imgs/",
        "https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
        _SEE_PAGE,
        "box",
        _PARTIAL_FILES,
    ),
    **OWN_DATA,
}
SOURCES["davis2017"] = SOURCES["davis"]

STILL_IMAGES = ("coco", "coco_panoptic", "coco_published", "sa1b", "sa1b_published", "saco")
"""Sources whose videos are views of still images."""

SOMETIMES_STILL = ("datumaro",)
"""Sources whose files say whether they hold videos or still images; an opened one has ``load_image`` then."""

FRAME_RATES: dict[str, float] = {
    "bdd100k": 5.0,
    "bdd100k_seg": 5.0,
    "davis": 24.0,
    "davis2016": 24.0,
    "got10k": 10.0,
    "sav": 24.0,
    "sav_auto": 24.0,
    "ytvos": 30.0,
}
"""Frames a second of data sets whose files do not say it, in the counting of their frames' numbers."""
