"""What the experiments' records say beside the sources: one line for each difference between two variants."""

from collections.abc import Iterator
from statistics import mean, stdev
from typing import Any, NamedTuple

from rcnn_tutorial.course.claims import Agreement, Expected
from rcnn_tutorial.course.records import difference, load
from rcnn_tutorial.course.records.rivals import changes


class Finding(NamedTuple):
    """A difference that a record holds, and what it says of a row of the claims ledger.

    Attributes:
        row: of the ledger.
        record, variant, against, metric: what is compared: the variant's metric minus the other's, seed by seed.
        within: where the whole interval of the mean lies.
        expected, tol, source: what the source says, as for `claims.claim`.
        agrees: whether the record agrees with it.
        relative: whether the difference is a share of the other variant's value.
        called: what the variant is called in this comparison; by default as in the record.
    """

    row: str
    record: str
    variant: str
    against: str
    metric: str
    within: tuple[float, float]
    expected: Expected | None
    agrees: Agreement
    source: str = ""
    tol: float = 0.0
    relative: bool = False
    called: str = ""

    def claim(self) -> dict[str, Any]:
        """The arguments of `claims.claim`: the mean over the seeds with its spread, and what the source says."""
        if self.relative:
            shares = changes(self.record, self.variant, self.against, self.metric)
            measured, spread, runs = mean(shares), stdev(shares), len(shares)
        else:
            gain = difference(load(self.record), self.variant, self.against, self.metric)
            measured, spread, runs = gain.mean, gain.spread, gain.seeds
        note = f"{self.metric}, {self.called or self.variant} minus {self.against}{', relative' * self.relative}"
        return dict(
            id=self.row,
            measured=measured,
            expected=self.expected,
            tol=self.tol,
            spread=spread,
            runs=runs,
            within=self.within,
            agrees=self.agrees,
            source=self.source,
            note=f"{note} (record {self.record}, {runs} seeds)",
        )


def findings(*rows: str) -> Iterator[dict[str, Any]]:
    """For `claims.claim`: the arguments of all findings of some rows of the ledger."""
    return (finding.claim() for row in rows for finding in FINDINGS if finding.row == row)


AGREES, DIFFERS, OPEN, SILENT = "agrees", "differs", "does not decide", "the source is silent"
TUNED, RANDOM, RAW = "pre-trained, fine-tuned", "random, fine-tuned", "pre-trained"
STRICT, LOOSE = "IoU 0.5 | SVM, truth alone", "IoU 0.5 | SVM, IoU 0.5"
TWO, ONE = "64 and 52", "64 alone"
STEP_2, STEP_4, STEP_6 = (f"alternating, step {n}" for n in (2, 4, 6))
JOINT, MOVING = "approximate joint", "non-approximate joint"
NINE = "3 scales, 3 ratios"
ALIGNED = "Fast R-CNN, RoIAlign"
SPP_LOSES, RPN_GAINS = "63.1 against 66.0 % of mAP", "69.9 against 66.9 % of mAP"
SMALL_GAIN, SLOW = "a large gain on small objects", "pyramids of images are slow"
ALIGN_GAINS = "masks gain from RoIAlign"
FOCAL, BEATS_OHEM = "focal loss", "36.0 against 32.8 %, with 1:3 against 31.1 %"
GRID = "the grid of YOLO misses small objects"
REGIONS = "detectors that work with regions are more accurate"
FASTER = "R-FCN and SSD are faster and less accurate"
HALF, FIFTY = "Faster R-CNN, half the sides", "Faster R-CNN, 50 proposals"

FINDINGS = tuple(
    Finding(*line)
    for line in (
        ("RCNN-01", "rcnn_parts", "+ regression", "regression after NMS", "AP50", (-0.01, 0.01), None, SILENT,
         "one text refines the boxes after NMS, two name no order"),
        ("RCNN-06", "rcnn_06", TUNED, RANDOM, "AP50", (0.1, 1), "> 0", AGREES, "pre-training helps"),
        ("RCNN-06", "rcnn_06", TUNED, RAW, "AP50", (0.03, 1), 0.095, DIFFERS, "44.7 to 54.2 % with fine-tuning"),
        ("RCNN-11", "rcnn_11", "0.3", "0.5", "AP50", (-0.01, 0.01), 0.05, DIFFERS, "0.5 costs about 5 points"),
        ("RCNN-11", "rcnn_11", "0.3", "0", "AP50", (-0.01, 0.01), 0.04, DIFFERS, "0 costs about 4 points"),
        ("RCNN-12", "rcnn_parts", "+ mining", "+ SVM", "AP50", (-0.01, 0.06), "> 0", OPEN, "mining helps"),
        ("RCNN-13", "rcnn_parts", "+ regression", "+ mining", "AP75", (0.03, 1), "> 0", AGREES, "regression helps"),
        ("RCNN-18", "rcnn_parts", "+ mining", "CNN", "AP50", (-0.01, 0.02), 0.033, DIFFERS,
         "50.9 % with softmax, 54.2 % with SVMs"),
        ("RCNN-19", "rcnn_19", STRICT, LOOSE, "AP50", (0, 1), "> 0", AGREES,
         "SVMs are better off with the truth alone"),
        ("RCNN-19", "rcnn_19", "truth alone | softmax", "IoU 0.5 | softmax", "AP50", (0, 1), "< 0", DIFFERS,
         "fine-tuning needs the many loose positives"),
        ("SPP-08", "spp_08", TWO, ONE, "accuracy at 52", (0.03, 0.12), "> 0", AGREES, "two sizes are better"),
        ("SPP-08", "spp_08", TWO, ONE, "accuracy at 64", (-0.08, 0), "> 0", DIFFERS, "two sizes are better"),
        ("SPP-19", "fast_16", "0 frozen", "5 frozen", "AP50", (-0.02, 0.1), "> 0", OPEN,
         "convolutions that are trained help"),
        ("FAST-11", "fast_11", "N = 32", "N = 2", "AP50", (-0.1, 0.4), 0.0, OPEN, "no difference in practice", 0.02),
        ("FAST-13", "fast_13", "from 0.1", "from 0", "AP50", (-0.15, 0.1), "> 0", OPEN,
         "it works like mining of hard examples"),
        ("FAST-16", "fast_16", "0 frozen", "5 frozen", "AP50", (-0.02, 0.1), 0.055, OPEN,
         "61.4 % frozen, 66.9 % trained"),
        ("FAST-23", "fast_23", "joint", "class alone", "AP50", (-0.03, 0.08), "> 0", OPEN, "joint training is better"),
        ("FAST-23", "fast_23", "joint", "stage-wise", "AP50", (-0.07, 0.07), "> 0", OPEN, "joint training is better"),
        ("FAST-24", "fast_24", "Fast R-CNN", "R-CNN", "AP50", (-0.15, 0.01), "> 0", OPEN, "66.9 against 66.0 %"),
        ("FAST-24", "fast_24", "Fast R-CNN", "SPPnet", "AP50", (-0.16, 0), "> 0", DIFFERS, "66.9 against 63.1 %"),
        ("FAST-24", "fast_24", "SPPnet", "R-CNN", "AP50", (-0.03, 0.04), -0.029, DIFFERS, "63.1 against 66.0 %"),
        ("FAST-24", "fast_24", "SPPnet", "R-CNN", "AP75", (-0.2, -0.05), "< 0", AGREES, "SPPnet is behind R-CNN"),
        ("FAST-24", "fast_24_longer", "2400 steps", "800 steps", "AP50", (0.02, 1), None, SILENT),
        ("FRCNN-19", "frcnn_19", "lambda = 10", "lambda = 0.1", "AP50", (-0.04, 0.04), 0.027, DIFFERS,
         "69.9 against 67.2 %"),
        ("FRCNN-19", "frcnn_19", "lambda = 10", "lambda = 1", "AP50", (-0.06, 0.04), 0.0, OPEN,
         "insensitive: 69.9 against 68.9 %", 0.01),
        ("FRCNN-19", "frcnn_19", "lambda = 10", "lambda = 100", "AP50", (0, 1), 0.0, DIFFERS,
         "insensitive: 69.9 against 69.1 %", 0.01),
        ("FRCNN-25", "frcnn_25", "inside alone", "all anchors", "AP50", (-0.15, 0), "> 0", DIFFERS,
         "without it training does not converge"),
        ("FRCNN-26", "frcnn_26", "3000 without NMS", "300 proposals", "AP50", (-0.05, 0.04), -0.016, OPEN,
         "6,000 without NMS: 55.2 against 56.8 %"),
        ("FRCNN-26", "frcnn_26", "100 proposals", "300 proposals", "AP50", (-0.05, 0.03), -0.017, OPEN,
         "55.1 against 56.8 %"),
        ("FRCNN-30", "frcnn_30", STEP_4, STEP_2, "AP50", (0, 1), "> 0", AGREES, "sharing is better than two networks"),
        ("FRCNN-30", "frcnn_30", STEP_6, STEP_4, "AP50", (-0.05, 0.15), 0.0, OPEN, "a further round brings nothing",
         0.01),
        ("FRCNN-31", "frcnn_30", JOINT, STEP_4, "AP50", (-0.2, 0.05), 0.0, OPEN, "close results", 0.01),
        ("FRCNN-31", "frcnn_30", JOINT, STEP_4, "seconds", (-150, -50), "< 0", AGREES, "less time"),
        ("FRCNN-31", "frcnn_30", JOINT, STEP_4, "seconds", (-0.75, -0.4), (-0.5, -0.25), DIFFERS,
         "25 to 50 % less time", 0.0, True),
        ("FRCNN-31", "frcnn_31", "1000 steps", "400 steps", "AP50", (0, 1), None, SILENT),
        ("FRCNN-32", "frcnn_30", MOVING, JOINT, "AP50", (-0.35, 0.05), None, SILENT),
        ("FRCNN-34", "frcnn_34", NINE, "1 scale, 1 ratio", "AP50", (-0.05, 0.1), (0.032, 0.041), OPEN,
         "69.9 against 65.8 to 66.7 %"),
        ("FRCNN-34", "frcnn_34", NINE, "3 scales, 1 ratio", "AP50", (-0.08, 0.03), 0.001, OPEN, "69.9 against 69.8 %"),
        ("FRCNN-34", "frcnn_34", NINE, "1 scale, 3 ratios", "AP50", (-0.15, 0), (0.011, 0.020), DIFFERS,
         "69.9 against 67.9 to 68.8 %"),
        ("FRCNN-35", "frcnn_35", "two stages", "one stage", "AP50", (0.3, 0.55), 0.048, DIFFERS, "58.7 against 53.9 %"),
        ("FPN-03", "fpn_03", "3 x 3", "none", "AP", (-0.05, 0.08), None, SILENT),
        ("FPN-07", "fpn_07", "top-down", "hierarchy", "AP", (-0.08, 0.12), "> 0", OPEN, "the pyramid is better"),
        ("FPN-07", "fpn_07", "top-down", "no laterals", "AP", (0.05, 1), "> 0", AGREES, "the pyramid is better"),
        ("FPN-07", "fpn_07", "top-down", "single", "AP", (-0.07, 0.07), "> 0", OPEN, "the pyramid is better"),
        ("FPN-10", "fpn_07", "finest", "top-down", "AP", (-1, 0), "< 0", AGREES, "P2 alone is worse"),
        ("FPN-07", "fpn_07_longer", "top-down", "hierarchy", "AP", (-0.05, 0), "> 0", DIFFERS, "the pyramid is better"),
        ("FPN-07", "fpn_07_longer", "top-down", "single", "AP", (-0.05, 0.03), "> 0", OPEN, "the pyramid is better"),
        ("FPN-11", "fpn_11", "shared", "one for each level", "AP", (-0.03, 0.08), 0.0, OPEN, "about the same", 0.01),
        ("FPN-15", "fpn_15", "all anchors", "inside alone", "AP", (-0.05, 0.05), None, SILENT),
        ("FPN-16", "fpn_07", "top-down", "single", "AP_small_third", (0, 1), "> 0", AGREES, SMALL_GAIN),
        ("FPN-16", "fpn_07", "top-down", "single", "AP_large_third", (-0.15, 0), None, SILENT),
        ("FPN-16", "fpn_07_longer", "top-down", "single", "AP_small_third", (0.04, 0.13), "> 0", AGREES, SMALL_GAIN),
        ("FPN-16", "fpn_07_longer", "top-down", "single", "AP_large_third", (-0.12, 0), None, SILENT),
        ("FPN-16", "fpn_16", "FPN", "Faster R-CNN", "AP_small_third", (0.05, 1), "> 0", AGREES, SMALL_GAIN),
        ("FPN-16", "fpn_16", "FPN", "Faster R-CNN", "AP", (0, 1), "> 0", AGREES, "the best of its time"),
        ("MASK-01", "mask_branch", "with masks", "boxes alone", "box AP", (-0.03, 0.03), 0.009, OPEN,
         "training with masks adds 0.9 points to box AP"),
        ("MASK-02", "mask_heads", "RoIAlign", "RoI pooling", "mask AP", (0, 0.15), "> 0", AGREES, ALIGN_GAINS),
        ("MASK-02", "mask_heads", "RoIAlign", "RoI pooling", "mask AP75", (0, 0.15), "> 0", AGREES, ALIGN_GAINS),
        ("MASK-06", "mask_heads", "RoIAlign", "softmax", "mask AP", (0.05, 0.3), "> 0", AGREES,
         "classes that do not compete are masked better", 0.0, False, "sigmoid"),
        ("RET-15", "retina_losses", FOCAL, "balanced CE", "AP", (0.1, 0.2), "> 0", AGREES, "34.0 against 31.1 %"),
        ("RET-15", "retina_losses", FOCAL, "sampling 1:3", "AP", (0, 0.12), "> 0", AGREES,
         "better than sampling of negatives"),
        ("RET-15", "retina_losses", FOCAL, "OHEM", "AP", (-0.06, 0.04), "> 0", OPEN, BEATS_OHEM),
        ("RET-15", "retina_losses", FOCAL, "OHEM", "AP50", (-0.15, 0), "> 0", DIFFERS, BEATS_OHEM),
        ("RET-17", "retina_losses", FOCAL, "CE", "AP", (0.1, 0.22), "> 0", AGREES, "the loss is what brings it"),
        ("RET-17", "retina_losses", FOCAL, "two stages", "AP", (-0.35, -0.2), "> 0", DIFFERS,
         "more accurate than two stages"),
        ("RET-17", "retina_losses", FOCAL, "two stages", "milliseconds", (-25, -5), "< 0", AGREES,
         "the speed of one stage"),
        ("RET-17", "retina_losses", FOCAL, "two stages", "seconds", (-60, -10), None, SILENT),
        ("RET-18", "retina_anchors", "nine anchors", "one anchor", "AP", (0.1, 0.3), 0.037, DIFFERS,
         "34.0 against 30.3 %"),
        ("CMP-01", "relatives", "YOLO grid", "SSD", "AP_small_third", (-0.4, -0.2), "< 0", AGREES, GRID),
        ("CMP-01", "relatives", "YOLO grid", "SSD", "AP_large_third", (-0.3, -0.1), None, SILENT),
        ("CMP-06", "relatives", "Faster R-CNN", "SSD", "AP", (-0.2, -0.05), "> 0", DIFFERS, REGIONS),
        ("CMP-06", "retina_losses", "two stages", "focal loss", "AP", (0.2, 0.3), "> 0", AGREES, REGIONS),
        ("CMP-09", "relatives", "R-FCN", "Faster R-CNN", "AP", (-0.06, 0.08), "< 0", OPEN, FASTER),
        ("CMP-09", "relatives", "R-FCN", "Faster R-CNN", "milliseconds", (-6, 0), "< 0", AGREES, FASTER),
        ("CMP-09", "relatives", "SSD", "Faster R-CNN", "AP", (0.05, 0.2), "< 0", DIFFERS, FASTER),
        ("CMP-09", "relatives", "SSD", "Faster R-CNN", "milliseconds", (-5, 0), "< 0", AGREES, FASTER),
        ("CMP-11", "strides", "C5", "C3", "AP", (-0.3, -0.15), "< 0", AGREES, "coarse maps alone cost much accuracy"),
        ("CMP-11", "strides", "C4", "C3", "AP", (-0.12, -0.03), "< 0", AGREES, "coarse maps alone cost much accuracy"),
        ("CMP-12", "relatives", HALF, "Faster R-CNN", "AP", (-0.7, -0.2), -0.1588, DIFFERS, "15.88 % less", 0.0, True),
        ("CMP-12", "relatives", HALF, "Faster R-CNN", "milliseconds", (-0.55, -0.3), -0.274, DIFFERS, "27.4 % less",
         0.0, True),
        ("CMP-16", "strides", "C4, stride 8", "C4", "AP", (0, 0.95), 0.05, DIFFERS, "5 % more", 0.0, True),
        ("CMP-16", "strides", "C4, stride 8", "C4", "milliseconds", (-0.2, 0.5), 0.63, DIFFERS, "63 % more", 0.0, True),
        ("CMP-17", "ensembles", "faster_rcnn + fpn", "fpn", "AP", (0, 0.03), "> 0", AGREES,
         "models that differ are better together"),
        ("CMP-17", "ensembles", "fpn + mask_rcnn", "fpn", "AP", (-0.01, 0.01), None, SILENT),
        ("CMP-18", "relatives", "SSD", "Faster R-CNN", "AP_small_third", (0.1, 0.25), "< 0", DIFFERS,
         "SSD is weak on small objects"),
        ("CMP-18", "relatives", "SSD", "Faster R-CNN", "AP_large_third", (0, 0.25), "> 0", AGREES,
         "SSD can lead on large objects"),
        ("CMP-19", "relatives", FIFTY, "R-FCN", "milliseconds", (-7, 0), 0.0, DIFFERS, "as fast as R-FCN", 0.1),
        ("CMP-19", "relatives", FIFTY, "SSD", "milliseconds", (-6, 0), 0.0, DIFFERS, "as fast as SSD", 0.1),
        ("CMP-19", "relatives", FIFTY, "Faster R-CNN", "AP", (-0.05, 0), None, SILENT),
        ("X-08", "x_08", "features", "anchors", "AP_small_third", (0, 1), "> 0", AGREES,
         "a pyramid of features serves small objects"),
        ("X-08", "x_08", "features", "filters", "AP_small_third", (0, 1), "> 0", AGREES,
         "a pyramid of features serves small objects"),
        ("X-08", "x_08", "images", "features", "AP", (-0.1, 0.35), "> 0", OPEN, "pyramids of images are accurate"),
        ("X-08", "x_08", "images", "features", "seconds", (100, 400), "> 0", AGREES, SLOW),
        ("X-08", "x_08", "images", "features", "milliseconds", (10, 200), "> 0", AGREES, SLOW),
        ("X-09", "ladder_shapes", "SPPnet", "R-CNN", "AP", (-0.1, 0), "< 0", AGREES, SPP_LOSES),
        ("X-09", "ladder_shapes", "Faster R-CNN", ALIGNED, "AP", (-0.01, 0.06), "> 0", OPEN, RPN_GAINS),
        ("X-09", "ladder_shapes", "FPN", "Faster R-CNN", "AP_small_third", (0, 1), "> 0", AGREES, SMALL_GAIN),
        ("X-09", "ladder_bccd", "SPPnet", "R-CNN", "AP", (-0.2, 0), "< 0", AGREES, SPP_LOSES),
        ("X-09", "ladder_bccd", "Faster R-CNN", ALIGNED, "AP", (0.05, 1), "> 0", AGREES, RPN_GAINS),
        ("X-09", "ladder_bccd", "FPN", "Faster R-CNN", "AP_small_third", (0.05, 1), "> 0", AGREES, SMALL_GAIN),
    )
)  # fmt: skip
