from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_FLOAT32: _ClassVar[DType]
    DTYPE_FLOAT16: _ClassVar[DType]
    DTYPE_INT8: _ClassVar[DType]
    DTYPE_UBINARY: _ClassVar[DType]
    DTYPE_INT32: _ClassVar[DType]
    DTYPE_INT64: _ClassVar[DType]
    DTYPE_UINT8: _ClassVar[DType]
    DTYPE_FLOAT64: _ClassVar[DType]
    DTYPE_BOOL: _ClassVar[DType]
    DTYPE_INT16: _ClassVar[DType]
    DTYPE_UINT16: _ClassVar[DType]
    DTYPE_UINT32: _ClassVar[DType]
    DTYPE_UINT64: _ClassVar[DType]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_DENSE: _ClassVar[Kind]
    KIND_MULTI_VECTOR: _ClassVar[Kind]
    KIND_SPARSE: _ClassVar[Kind]
    KIND_GAUSSIAN: _ClassVar[Kind]
    KIND_SCORES: _ClassVar[Kind]
    KIND_CODES: _ClassVar[Kind]
DTYPE_UNSPECIFIED: DType
DTYPE_FLOAT32: DType
DTYPE_FLOAT16: DType
DTYPE_INT8: DType
DTYPE_UBINARY: DType
DTYPE_INT32: DType
DTYPE_INT64: DType
DTYPE_UINT8: DType
DTYPE_FLOAT64: DType
DTYPE_BOOL: DType
DTYPE_INT16: DType
DTYPE_UINT16: DType
DTYPE_UINT32: DType
DTYPE_UINT64: DType
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
KIND_UNSPECIFIED: Kind
KIND_DENSE: Kind
KIND_MULTI_VECTOR: Kind
KIND_SPARSE: Kind
KIND_GAUSSIAN: Kind
KIND_SCORES: Kind
KIND_CODES: Kind

class Item(_message.Message):
    __slots__ = ("parts", "part", "order")
    class PartsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Part
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Part, _Mapping]] = ...) -> None: ...
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.MessageMap[str, Part]
    part: Part
    order: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parts: _Optional[_Mapping[str, Part]] = ..., part: _Optional[_Union[Part, _Mapping]] = ..., order: _Optional[_Iterable[str]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("text", "image", "audio", "video", "tensor", "vector", "row", "file", "pixels", "samples", "frames", "set", "pair", "instruction", "language", "rate", "space")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    PAIR_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    text: bytes
    image: bytes
    audio: bytes
    video: bytes
    tensor: Tensor
    vector: Tensor
    row: Row
    file: bytes
    pixels: Tensor
    samples: Tensor
    frames: Tensor
    set: Set
    pair: bytes
    instruction: bytes
    language: str
    rate: float
    space: str
    def __init__(self, text: _Optional[bytes] = ..., image: _Optional[bytes] = ..., audio: _Optional[bytes] = ..., video: _Optional[bytes] = ..., tensor: _Optional[_Union[Tensor, _Mapping]] = ..., vector: _Optional[_Union[Tensor, _Mapping]] = ..., row: _Optional[_Union[Row, _Mapping]] = ..., file: _Optional[bytes] = ..., pixels: _Optional[_Union[Tensor, _Mapping]] = ..., samples: _Optional[_Union[Tensor, _Mapping]] = ..., frames: _Optional[_Union[Tensor, _Mapping]] = ..., set: _Optional[_Union[Set, _Mapping]] = ..., pair: _Optional[bytes] = ..., instruction: _Optional[bytes] = ..., language: _Optional[str] = ..., rate: _Optional[float] = ..., space: _Optional[str] = ...) -> None: ...

class Set(_message.Message):
    __slots__ = ("pieces",)
    PIECES_FIELD_NUMBER: _ClassVar[int]
    pieces: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, pieces: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("cells",)
    class CellsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Cell
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Cell, _Mapping]] = ...) -> None: ...
    CELLS_FIELD_NUMBER: _ClassVar[int]
    cells: _containers.MessageMap[str, Cell]
    def __init__(self, cells: _Optional[_Mapping[str, Cell]] = ...) -> None: ...

class Cell(_message.Message):
    __slots__ = ("number", "category")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    number: float
    category: bytes
    def __init__(self, number: _Optional[float] = ..., category: _Optional[bytes] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("model", "tower", "items", "texts", "outputs", "dim", "dtype", "prompt", "truncate", "priority", "pool")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOWER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    model: str
    tower: str
    items: _containers.RepeatedCompositeFieldContainer[Item]
    texts: _containers.RepeatedScalarFieldContainer[bytes]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    dim: int
    dtype: DType
    prompt: str
    truncate: bool
    priority: Priority
    pool: int
    def __init__(self, model: _Optional[str] = ..., tower: _Optional[str] = ..., items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., texts: _Optional[_Iterable[bytes]] = ..., outputs: _Optional[_Iterable[str]] = ..., dim: _Optional[int] = ..., dtype: _Optional[_Union[DType, str]] = ..., prompt: _Optional[str] = ..., truncate: bool = ..., priority: _Optional[_Union[Priority, str]] = ..., pool: _Optional[int] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("name", "kind", "space", "values", "scales", "offsets", "indices", "log_variance", "labels", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    LOG_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: Kind
    space: str
    values: Tensor
    scales: bytes
    offsets: bytes
    indices: bytes
    log_variance: Tensor
    labels: _containers.RepeatedScalarFieldContainer[str]
    size: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[Kind, str]] = ..., space: _Optional[str] = ..., values: _Optional[_Union[Tensor, _Mapping]] = ..., scales: _Optional[bytes] = ..., offsets: _Optional[bytes] = ..., indices: _Optional[bytes] = ..., log_variance: _Optional[_Union[Tensor, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., size: _Optional[int] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("index", "status", "message")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    status: str
    message: str
    def __init__(self, index: _Optional[int] = ..., status: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("prepare_us", "queue_us", "compute_us")
    PREPARE_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    prepare_us: int
    queue_us: int
    compute_us: int
    def __init__(self, prepare_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., compute_us: _Optional[int] = ...) -> None: ...

class EmbedReply(_message.Message):
    __slots__ = ("model", "version", "tower", "outputs", "errors", "tokens", "timings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOWER_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    tower: str
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    errors: _containers.RepeatedCompositeFieldContainer[ItemError]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    timings: Timings
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., tower: _Optional[str] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ..., errors: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ..., tokens: _Optional[_Iterable[int]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class Labels(_message.Message):
    __slots__ = ("labels", "templates", "tower", "output", "scores")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    TOWER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    templates: _containers.RepeatedScalarFieldContainer[str]
    tower: str
    output: str
    scores: str
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., templates: _Optional[_Iterable[str]] = ..., tower: _Optional[str] = ..., output: _Optional[str] = ..., scores: _Optional[str] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("request", "label_set", "labels", "top")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    LABEL_SET_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    request: EmbedRequest
    label_set: str
    labels: Labels
    top: int
    def __init__(self, request: _Optional[_Union[EmbedRequest, _Mapping]] = ..., label_set: _Optional[str] = ..., labels: _Optional[_Union[Labels, _Mapping]] = ..., top: _Optional[int] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("request", "query")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    request: EmbedRequest
    query: Part
    def __init__(self, request: _Optional[_Union[EmbedRequest, _Mapping]] = ..., query: _Optional[_Union[Part, _Mapping]] = ...) -> None: ...

class EmbedStreamRequest(_message.Message):
    __slots__ = ("id", "request", "timeout_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    id: int
    request: EmbedRequest
    timeout_ms: int
    def __init__(self, id: _Optional[int] = ..., request: _Optional[_Union[EmbedRequest, _Mapping]] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class StreamError(_message.Message):
    __slots__ = ("status", "message", "retry_after_ms")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    status: str
    message: str
    retry_after_ms: int
    def __init__(self, status: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class EmbedStreamReply(_message.Message):
    __slots__ = ("id", "reply", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    reply: EmbedReply
    error: StreamError
    def __init__(self, id: _Optional[int] = ..., reply: _Optional[_Union[EmbedReply, _Mapping]] = ..., error: _Optional[_Union[StreamError, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsReply(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelSummary]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelSummary, _Mapping]]] = ...) -> None: ...

class ModelSummary(_message.Message):
    __slots__ = ("name", "version", "towers")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOWERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    towers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., towers: _Optional[_Iterable[str]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "version", "towers", "spaces", "backend", "backend_reason", "certificate", "label_sets", "device", "batches_in_flight", "cuda_graphs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOWERS_FIELD_NUMBER: _ClassVar[int]
    SPACES_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    BACKEND_REASON_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SETS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    CUDA_GRAPHS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    towers: _containers.RepeatedCompositeFieldContainer[TowerInfo]
    spaces: _containers.RepeatedCompositeFieldContainer[SpaceInfo]
    backend: str
    backend_reason: str
    certificate: _containers.RepeatedCompositeFieldContainer[FigureInfo]
    label_sets: _containers.RepeatedCompositeFieldContainer[LabelSetInfo]
    device: str
    batches_in_flight: int
    cuda_graphs: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., towers: _Optional[_Iterable[_Union[TowerInfo, _Mapping]]] = ..., spaces: _Optional[_Iterable[_Union[SpaceInfo, _Mapping]]] = ..., backend: _Optional[str] = ..., backend_reason: _Optional[str] = ..., certificate: _Optional[_Iterable[_Union[FigureInfo, _Mapping]]] = ..., label_sets: _Optional[_Iterable[_Union[LabelSetInfo, _Mapping]]] = ..., device: _Optional[str] = ..., batches_in_flight: _Optional[int] = ..., cuda_graphs: _Optional[int] = ...) -> None: ...

class TowerInfo(_message.Message):
    __slots__ = ("name", "parts", "outputs", "loaded")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    name: str
    parts: _containers.RepeatedCompositeFieldContainer[PartInfo]
    outputs: _containers.RepeatedCompositeFieldContainer[OutputInfo]
    loaded: bool
    def __init__(self, name: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[PartInfo, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[OutputInfo, _Mapping]]] = ..., loaded: bool = ...) -> None: ...

class PartInfo(_message.Message):
    __slots__ = ("name", "modality", "optional", "max_length", "prompts", "max_bytes", "text", "image", "audio", "video", "tensor", "table", "vector", "set")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    name: str
    modality: str
    optional: bool
    max_length: int
    prompts: _containers.RepeatedScalarFieldContainer[str]
    max_bytes: int
    text: TextInfo
    image: ImageInfo
    audio: AudioInfo
    video: VideoInfo
    tensor: TensorInfo
    table: TableInfo
    vector: VectorInfo
    set: SetInfo
    def __init__(self, name: _Optional[str] = ..., modality: _Optional[str] = ..., optional: bool = ..., max_length: _Optional[int] = ..., prompts: _Optional[_Iterable[str]] = ..., max_bytes: _Optional[int] = ..., text: _Optional[_Union[TextInfo, _Mapping]] = ..., image: _Optional[_Union[ImageInfo, _Mapping]] = ..., audio: _Optional[_Union[AudioInfo, _Mapping]] = ..., video: _Optional[_Union[VideoInfo, _Mapping]] = ..., tensor: _Optional[_Union[TensorInfo, _Mapping]] = ..., table: _Optional[_Union[TableInfo, _Mapping]] = ..., vector: _Optional[_Union[VectorInfo, _Mapping]] = ..., set: _Optional[_Union[SetInfo, _Mapping]] = ...) -> None: ...

class SetInfo(_message.Message):
    __slots__ = ("tower", "output", "pool", "max_pieces", "prompt")
    TOWER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    MAX_PIECES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    tower: str
    output: str
    pool: str
    max_pieces: int
    prompt: str
    def __init__(self, tower: _Optional[str] = ..., output: _Optional[str] = ..., pool: _Optional[str] = ..., max_pieces: _Optional[int] = ..., prompt: _Optional[str] = ...) -> None: ...

class TextInfo(_message.Message):
    __slots__ = ("default_prompt", "pairs", "instruction", "languages", "default_language", "allow_empty")
    DEFAULT_PROMPT_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_EMPTY_FIELD_NUMBER: _ClassVar[int]
    default_prompt: str
    pairs: bool
    instruction: str
    languages: _containers.RepeatedScalarFieldContainer[str]
    default_language: str
    allow_empty: bool
    def __init__(self, default_prompt: _Optional[str] = ..., pairs: bool = ..., instruction: _Optional[str] = ..., languages: _Optional[_Iterable[str]] = ..., default_language: _Optional[str] = ..., allow_empty: bool = ...) -> None: ...

class ImageInfo(_message.Message):
    __slots__ = ("height", "width", "mode", "max_pixels")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    mode: str
    max_pixels: int
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., mode: _Optional[str] = ..., max_pixels: _Optional[int] = ...) -> None: ...

class AudioInfo(_message.Message):
    __slots__ = ("rate", "min_seconds", "max_seconds", "hop_seconds", "max_windows")
    RATE_FIELD_NUMBER: _ClassVar[int]
    MIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HOP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    rate: int
    min_seconds: float
    max_seconds: float
    hop_seconds: float
    max_windows: int
    def __init__(self, rate: _Optional[int] = ..., min_seconds: _Optional[float] = ..., max_seconds: _Optional[float] = ..., hop_seconds: _Optional[float] = ..., max_windows: _Optional[int] = ...) -> None: ...

class VideoInfo(_message.Message):
    __slots__ = ("image", "frames", "sampling", "stride", "fps", "max_seconds")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    MAX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    image: ImageInfo
    frames: int
    sampling: str
    stride: int
    fps: float
    max_seconds: float
    def __init__(self, image: _Optional[_Union[ImageInfo, _Mapping]] = ..., frames: _Optional[int] = ..., sampling: _Optional[str] = ..., stride: _Optional[int] = ..., fps: _Optional[float] = ..., max_seconds: _Optional[float] = ...) -> None: ...

class TensorInfo(_message.Message):
    __slots__ = ("dtype", "shape", "minimum", "maximum", "missing")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedCompositeFieldContainer[Axis]
    minimum: float
    maximum: float
    missing: bool
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[_Union[Axis, _Mapping]]] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., missing: bool = ...) -> None: ...

class Axis(_message.Message):
    __slots__ = ("size", "symbol")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    size: int
    symbol: str
    def __init__(self, size: _Optional[int] = ..., symbol: _Optional[str] = ...) -> None: ...

class TableInfo(_message.Message):
    __slots__ = ("columns",)
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[ColumnInfo]
    def __init__(self, columns: _Optional[_Iterable[_Union[ColumnInfo, _Mapping]]] = ...) -> None: ...

class ColumnInfo(_message.Message):
    __slots__ = ("name", "categories", "missing", "minimum", "maximum")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    name: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    missing: bool
    minimum: float
    maximum: float
    def __init__(self, name: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., missing: bool = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ...) -> None: ...

class VectorInfo(_message.Message):
    __slots__ = ("dim", "space")
    DIM_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    dim: int
    space: str
    def __init__(self, dim: _Optional[int] = ..., space: _Optional[str] = ...) -> None: ...

class OutputInfo(_message.Message):
    __slots__ = ("name", "kind", "space", "dim", "normalized", "dims", "labels", "top", "form", "ragged")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    NORMALIZED_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    RAGGED_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: Kind
    space: str
    dim: int
    normalized: bool
    dims: _containers.RepeatedScalarFieldContainer[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    top: int
    form: str
    ragged: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[Kind, str]] = ..., space: _Optional[str] = ..., dim: _Optional[int] = ..., normalized: bool = ..., dims: _Optional[_Iterable[int]] = ..., labels: _Optional[_Iterable[str]] = ..., top: _Optional[int] = ..., form: _Optional[str] = ..., ragged: bool = ...) -> None: ...

class SpaceInfo(_message.Message):
    __slots__ = ("id", "dim", "metric", "lineage", "scale", "bias")
    ID_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    id: str
    dim: int
    metric: str
    lineage: _containers.RepeatedScalarFieldContainer[str]
    scale: float
    bias: float
    def __init__(self, id: _Optional[str] = ..., dim: _Optional[int] = ..., metric: _Optional[str] = ..., lineage: _Optional[_Iterable[str]] = ..., scale: _Optional[float] = ..., bias: _Optional[float] = ...) -> None: ...

class LabelSetInfo(_message.Message):
    __slots__ = ("name", "tower", "output", "labels", "templates", "scores")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOWER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    name: str
    tower: str
    output: str
    labels: int
    templates: int
    scores: str
    def __init__(self, name: _Optional[str] = ..., tower: _Optional[str] = ..., output: _Optional[str] = ..., labels: _Optional[int] = ..., templates: _Optional[int] = ..., scores: _Optional[str] = ...) -> None: ...

class FigureInfo(_message.Message):
    __slots__ = ("name", "value", "limit", "passed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    limit: float
    passed: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., limit: _Optional[float] = ..., passed: bool = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ModelStats(_message.Message):
    __slots__ = ("name", "version", "serving", "figures", "lanes", "threads", "lanes_reason", "cost", "costs")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class CostsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: CostTable
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[CostTable, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    LANES_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    LANES_REASON_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    COSTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    serving: bool
    figures: _containers.ScalarMap[str, float]
    lanes: int
    threads: int
    lanes_reason: str
    cost: CostTable
    costs: _containers.MessageMap[str, CostTable]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., serving: bool = ..., figures: _Optional[_Mapping[str, float]] = ..., lanes: _Optional[int] = ..., threads: _Optional[int] = ..., lanes_reason: _Optional[str] = ..., cost: _Optional[_Union[CostTable, _Mapping]] = ..., costs: _Optional[_Mapping[str, CostTable]] = ...) -> None: ...

class CostTable(_message.Message):
    __slots__ = ("rows", "lengths", "seconds")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedScalarFieldContainer[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    seconds: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, rows: _Optional[_Iterable[int]] = ..., lengths: _Optional[_Iterable[int]] = ..., seconds: _Optional[_Iterable[float]] = ...) -> None: ...
