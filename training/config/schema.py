"""The keys that every detector shares, with their types, defaults and meaning.

The names are the field's (DeepfakeBench's YAML files). A detector, module or recipe declares its own keys beside its own
code by deriving from these classes, so that this file never has to know it.
"""

import typing
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from common.cli import MOST, MOST_SEED

# Of anything in one batch or one video: more than anybody has, less than numbers that allocate the whole memory by a typo.
MANY = 1_000_000


class Section(BaseModel):
    """A group of keys in which an unknown key is an error and a wrong assignment in code is one too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _fits(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse whole numbers that PyTorch and NumPy would choke on; keys whose sizes matter have bounds of their own."""
        most = MOST_SEED if str(info.field_name).lower().endswith(("seed", "seeds")) else MOST
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and not -most <= number <= most:
                raise ValueError(f"{number} is too large; write a whole number of at most {most}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _python_none(cls, values: Any) -> Any:
        """Take Python's `None` for YAML's null, and false for none of what can neither be true nor false."""
        if not isinstance(values, dict):
            return values
        return {key: None if _is_none(value, cls.model_fields.get(key)) else value for key, value in values.items()}


def _is_none(value: Any, field: FieldInfo | None) -> bool:
    if field is None or not (value is False or value in ("None", "none")):
        return False
    kinds = typing.get_args(field.annotation)
    # A word that the key itself knows (`supervision: none`) means what it says there.
    words = {word for kind in kinds if typing.get_origin(kind) is Literal for word in typing.get_args(kind)}
    return type(None) in kinds and value not in words and (value is not False or bool not in kinds)


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]
# YAML makes a list out of `[a, b]` only; a single dataset is often written, or given by `--set`, as one word.
Names = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class BackboneConfig(Section):
    """What the trunk is asked for; detectors that need more derive from it."""

    mode: str | None = Field(
        None, description="variant of the trunk (the field's name; `original` when it has one only)"
    )
    num_classes: int = Field(2, ge=1, le=MANY, description="outputs of the trunk's classifier")
    inc: int = Field(3, ge=1, le=MANY, description="input channels")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the classifier; `false` is 0")

    @field_validator("dropout", mode="before")
    @classmethod
    def _false_is_zero(cls, value: Any) -> Any:
        return 0.0 if value is False or value is None else value


class FrameNum(Section):
    """Frames used per video, spread evenly over it."""

    train: int = Field(32, ge=1, le=MANY)
    val: int | None = Field(None, ge=1, le=MANY, description="null: as in test")
    test: int = Field(32, ge=1, le=MANY)

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, value: Any) -> Any:
        return spread_frames(value)


def spread_frames(value: Any) -> Any:
    """Return `{train, val, test}` of one number of frames for all of them; anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"train": value, "val": value, "test": value}
    return value


class DataAug(Section):
    """Augmentation of training frames: probabilities and limits (angles in degrees, kernel sizes in pixels)."""

    flip_prob: Probability = Field(0.5, description="mirrored")
    rotate_prob: Probability = Field(0.5, description="turned")
    rotate_limit: Pair = Field([-10, 10], description="by an angle between these, degrees")
    blur_prob: Probability = Field(0.5, description="Gaussian blur")
    blur_limit: Annotated[list[Annotated[float, Field(ge=0, le=255)]], Field(min_length=2, max_length=2)] = [3, 7]
    brightness_prob: Probability = Field(0.5, description="brightness and contrast, FancyPCA, or hue and saturation")
    brightness_limit: Pair = Field([-0.1, 0.1], description="added, as a share of full white")
    contrast_limit: Pair = Field([-0.1, 0.1], description="added to the factor of 1")
    quality_lower: int = Field(40, ge=1, le=100, description="least JPEG quality")
    quality_upper: int = Field(100, ge=1, le=100, description="highest JPEG quality")
    compress_prob: Probability = Field(0.5, description="compressed as JPEG")
    rescale_prob: Probability = Field(
        1.0,
        description="random interpolation where crops are resized to `resolution` (not when landmarks are asked for)",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "DataAug":
        for name in ("rotate_limit", "blur_limit", "brightness_limit", "contrast_limit"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lower limit {low} is above the upper limit {high}")
        if self.quality_lower > self.quality_upper:
            raise ValueError(f"quality_lower {self.quality_lower} is above quality_upper {self.quality_upper}")
        return self


class AdamConfig(Section):
    """Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019)."""

    lr: Positive = 2e-4
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 5e-4
    amsgrad: bool = False


class SGDConfig(Section):
    """Stochastic gradient descent with momentum."""

    lr: Positive = 2e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 5e-4
    nesterov: bool = False


class SAMConfig(SGDConfig):
    """Sharpness-aware minimisation (Foret et al. 2021) around SGD."""

    lr: Positive = 1e-3
    rho: Positive = 0.05


class OptimizerConfig(Section):
    """`type` chooses; only the section of that name is used."""

    type: Literal["adam", "adamw", "sgd", "sam"] = "adam"
    adam: AdamConfig = Field(default_factory=AdamConfig)
    adamw: AdamConfig = Field(default_factory=AdamConfig)
    sgd: SGDConfig = Field(default_factory=SGDConfig)
    sam: SAMConfig = Field(default_factory=SAMConfig)
    decay_norm_and_bias: bool = Field(True, description="false: no weight decay on norms and biases")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="learning-rate factor per layer below the head"
    )


class DataConfig(Section):
    """How the data path behaves when something is wrong."""

    on_error: Literal["raise", "skip"] = Field("raise", description="skip: drop the whole draw, count and list it")
    max_pixels: int = Field(64_000_000, ge=1, description="a picture that says it has more is not decoded")
    roots: Names = Field([], description="folders outside rgb_dir that links inside it, or the index, may lead to")


# Keys that say where something lies on this machine, and whether frames come out of an LMDB.
PLACES = ("rgb_dir", "lmdb", "lmdb_dir", "dataset_json_folder", "path_prefix", "log_dir")
# Keys that change where and how fast a run is done, not what comes out.
BOOKKEEPING = (*PLACES, "task_target", "workers", "rec_iter", "keep_checkpoints", "save_every_steps")
# Keys that may differ between a run and its continuation without changing its course.
NOT_OF_THE_COURSE = frozenset(
    {
        *BOOKKEEPING,
        "save_epoch",
        "save_ckpt",
        "save_feat",
        "test_dataset",
        "test_batchSize",
        "pretrained",
        "tnr_at_tpr",
        "missing",
        "data_note",
    }
)
# Keys that do not change what trained weights make of an image: those, and what only training listens to.
NOT_OF_A_SCORE = NOT_OF_THE_COURSE | {
    "train_dataset",
    "val_dataset",
    "hold_out",
    "pairing",
    "data",  # what is left out as unreadable is counted
    "train_batchSize",
    "use_data_augmentation",
    "data_aug",
    "optimizer",
    "lr_scheduler",
    "lr_step",
    "lr_gamma",
    "lr_min",
    "lr_hold",
    "lr_rise",
    "warmup_steps",
    "nEpochs",
    "start_epoch",
    "max_steps",
    "grad_clip",
    "accumulate",
    "SWA",
    "swa_start",
    "ema_decay",
    "early_stopping",
    "metric_scoring",
    "metric_level",
}


class Config(Section):
    """One run's configuration. Field names are the YAML keys."""

    # model
    model_name: str = Field(description="which detector: docs/detectors.md")
    pretrained: str | None = Field(None, description="a tag of the trunk's library, a local file, or null")
    backbone_name: str | None = Field(None, description="which trunk, where a detector takes several")
    backbone_config: BackboneConfig = Field(default_factory=BackboneConfig)

    # data
    train_dataset: Names = Field([], description="datasets to train on; their indexes lie in dataset_json_folder")
    val_dataset: Names | None = Field(None, description="null: the validation split of train_dataset")
    test_dataset: Names = Field([], description="datasets to test on, after training too")
    hold_out: Names = Field([], description="labels of fakes that training and validation never see")
    pairing: Literal["paired", "unpaired"] | None = Field(
        None,
        description="train on fakes of the reals' own people, or of others, as many of each; null: on all there are",
    )
    compression: str = Field("c23", description="compression level, where a dataset has several")
    train_batchSize: int = Field(32, ge=1, le=MANY, description="images (or clips) per step over all GPUs together")
    test_batchSize: int = Field(32, ge=1, le=MANY, description="images (or clips) at once in testing")
    workers: int = Field(8, ge=0, le=1024, description="data-loading processes")
    frame_num: FrameNum = Field(default_factory=FrameNum)
    resolution: int = Field(256, ge=8, le=8192, description="side of the square network input, in pixels")
    with_mask: bool = Field(False, description="read forgery masks")
    with_landmark: bool = Field(False, description="read landmarks")
    video_mode: bool = Field(False, description="clips instead of single frames")
    clip_size: int | None = Field(None, ge=1, le=MANY, description="frames per clip, with video_mode")
    dataset_type: str | None = Field(None, description="training recipe; null: frames, or clips with video_mode")
    recipe: dict[str, Any] = Field(default_factory=dict, description="the recipe's own keys")
    use_data_augmentation: bool = Field(True, description="augment training samples, as data_aug says")
    data_aug: DataAug = Field(default_factory=DataAug)
    mean: Triple = Field([0.5, 0.5, 0.5], description="subtracted from values in [0, 1]; CLIP towers have their own")
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] = Field(
        [0.5, 0.5, 0.5], description="divided by, after the mean"
    )
    data: DataConfig = Field(default_factory=DataConfig)
    lmdb: bool = Field(False, description="read frames, landmarks and masks from lmdb_dir instead of rgb_dir")
    rgb_dir: str = Field("./datasets/rgb", description="folder of the datasets' folders of frames")
    lmdb_dir: str = Field("./datasets/lmdb", description="folder of the databases, `<dataset>_lmdb` each")
    dataset_json_folder: str = Field(
        "./preprocessing/dataset_json", description="folder of the indexes, `<dataset>.json`"
    )
    path_prefix: dict[str, str] = Field(
        default_factory=dict, description="how an index's paths begin on another machine: what stands there on this one"
    )
    label_dict: dict[str, Literal[0, 1]] = Field(
        default_factory=dict, description="labels of your own: 0 real, 1 fake; those of known datasets are there"
    )
    data_note: str | None = Field(
        None, description="a sentence on the nature of the training data; every report begins with it"
    )

    # optimisation
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    lr_scheduler: Literal["step", "cosine", "linear"] | None = Field(None, description="null: the rate stays")
    lr_step: int = Field(5, ge=1, description="epochs between two steps of the `step` schedule")
    lr_gamma: Positive = Field(0.5, description="factor of the `step` schedule")
    lr_min: NonNegative = Field(0.0, description="end of the `cosine` and `linear` schedules, as a factor of lr")
    lr_hold: float = Field(
        0.0, ge=0, lt=1, description="share of the training before `cosine` and `linear` begin to fall"
    )
    warmup_steps: int = Field(0, ge=0, description="steps of the linear rise with which every schedule begins")
    lr_rise: float = Field(0.0, ge=0, lt=1, description="its least length as a share of the training")
    nEpochs: int = Field(10, ge=1, description="length of the training")
    start_epoch: int = Field(0, ge=0, description="begin with this epoch, counted from 0")
    max_steps: int | None = Field(None, ge=1, description="stop after this many steps, whatever nEpochs says")
    grad_clip: Positive | None = Field(None, description="largest gradient norm")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto: bf16 on CUDA, fp32 elsewhere")
    accumulate: int = Field(1, ge=1, le=MANY, description="micro-batches that make up one step's batch")
    compile: bool | Literal["inductor", "aot_eager", "eager"] = Field(
        False, description="torch.compile the network and its losses; a word names the backend (true: inductor)"
    )
    channels_last: bool = Field(False, description="the memory order that convolutions like on GPUs")
    sync_batchnorm: bool = Field(False, description="BatchNorm statistics over all GPUs")
    SWA: bool = Field(False, description="average the weights over the last epochs (Izmailov et al. 2018)")
    swa_start: float = Field(0.75, ge=0, lt=1, description="share of the training after which SWA begins")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="moving average of the weights, as Polyak and Ruppert"
    )
    early_stopping: int | None = Field(None, ge=1, description="stop after so many validations without a better score")
    loss_func: str | dict[str, Any] = Field("cross_entropy", description="which loss, where a detector has a choice")

    # book-keeping
    save_epoch: int = Field(1, ge=1, description="epochs between two checkpoints")
    save_every_steps: int | None = Field(None, ge=1, description="also a checkpoint every so many steps")
    rec_iter: int = Field(100, ge=1, description="steps between two lines in the log")
    manualSeed: int = Field(1024, ge=0, le=MOST_SEED, description="of everything random")
    keep_checkpoints: int = Field(2, ge=1, description="how many of the newest resumable checkpoints are kept")
    save_ckpt: bool = Field(True, description="keep checkpoints")
    save_feat: bool = Field(True, description="keep the features of test sets")
    missing: Literal["exclude", "chance"] = Field(
        "exclude", description="how videos of a test set without a score count: not at all, or with a coin's score"
    )
    metric_scoring: Literal["auc", "acc", "eer", "ap"] = Field("auc", description="chooses the best checkpoint")
    metric_level: Literal["frame", "video"] = Field("frame", description="level of metric_scoring")
    tnr_at_tpr: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.95], description="true positive rates at which the true negative rate is told"
    )
    log_dir: str = Field("./logs", description="run directories are made under it: <log_dir>/<model_name>/<time>")
    task_target: str = Field("", description="a word that is added to the run directory's name")
    dry_run: bool = Field(False, description="a handful of videos and steps, to see that everything is in place")

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> "Config":
        if self.start_epoch >= self.nEpochs:
            raise ValueError(f"start_epoch {self.start_epoch} leaves nothing of nEpochs {self.nEpochs}; lower it")
        return self

    @model_validator(mode="after")
    def _clip_size_goes_with_video_mode(self) -> "Config":
        if self.video_mode and self.clip_size is None:
            raise ValueError("video_mode needs clip_size (frames per clip)")
        return self
