//! Writing safetensors, one tensor after another.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use candle_core::{CpuStorage, DType, Device, Result as TensorResult, Storage, Tensor, WithDType, bail};
use serde_json::{Map, Value, json};

use super::error::{WeightsError, io};
use super::whole;

/// Elements that are turned into bytes at a time.
const BLOCK: usize = 1 << 14;

/// A tensor that is going to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Its elements' type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl Planned {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size_in_bytes()
    }
}

/// Writes tensors to the safetensors file `path`, which appears when it is whole.
///
/// # Errors
/// As [`write_streamed`].
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), WeightsError> {
    let plan = tensors.iter().map(|(name, tensor)| Planned {
        name: name.clone(),
        dtype: tensor.dtype(),
        shape: tensor.dims().to_vec(),
    });
    write_streamed(path, plan.collect(), |name| match tensors.get(name) {
        Some(tensor) => Ok(tensor.clone()),
        None => bail!("there is no tensor `{name}`"),
    })
}

/// Writes the planned tensors to the safetensors file `path`, asking `tensor` for one at a time: there is never more than one of
/// them in memory for the writer's sake. The file's metadata is `{"format": "pt"}`, which transformers asks for.
///
/// # Errors
/// For a dtype that the format has not, a name that stands there twice, a tensor that is not as planned, and where the system
/// refuses. Nothing is left under the name then, and what was there stays.
pub fn write_streamed(
    path: &Path,
    mut plan: Vec<Planned>,
    mut tensor: impl FnMut(&str) -> TensorResult<Tensor>,
) -> Result<(), WeightsError> {
    let in_file = |source| WeightsError::Tensor { path: path.to_owned(), source };
    // Wide elements first, so that each tensor begins at a multiple of its width.
    plan.sort_by(|a, b| (b.dtype.size_in_bytes(), &a.name).cmp(&(a.dtype.size_in_bytes(), &b.name)));
    let header = header(&plan).map_err(in_file)?;
    whole::write(path, |file| {
        io(path, "write it", file.write_all(&(header.len() as u64).to_le_bytes()))?;
        io(path, "write it", file.write_all(&header))?;
        for planned in &plan {
            let tensor =
                tensor(&planned.name).and_then(|tensor| as_planned(planned, tensor)).map_err(in_file)?;
            io(path, "write it", write_elements(&tensor, file).map_err(in_file)?)?;
        }
        Ok(())
    })
}

/// The JSON, padded with spaces so that the data begins at a multiple of eight.
fn header(plan: &[Planned]) -> TensorResult<Vec<u8>> {
    let mut map = Map::new();
    map.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut begin = 0;
    for planned in plan {
        let end = begin + planned.bytes();
        let dtype = name_of(planned.dtype)?;
        let entry = json!({"dtype": dtype, "shape": planned.shape, "data_offsets": [begin, end]});
        if map.insert(planned.name.clone(), entry).is_some() {
            bail!("the name `{}` stands there twice", planned.name);
        }
        begin = end;
    }
    let mut text = Value::Object(map).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

fn name_of(dtype: DType) -> TensorResult<&'static str> {
    Ok(match dtype {
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::U8 => "U8",
        DType::U32 => "U32",
        DType::I16 => "I16",
        DType::I32 => "I32",
        DType::I64 => "I64",
        other => bail!("tensors of {other:?} are not written"),
    })
}

fn as_planned(planned: &Planned, tensor: Tensor) -> TensorResult<Tensor> {
    if tensor.dims() != planned.shape || tensor.dtype() != planned.dtype {
        bail!(
            "tensor `{}`: expected {:?} {:?}, found {:?} {:?}",
            planned.name,
            planned.dtype,
            planned.shape,
            tensor.dtype(),
            tensor.dims()
        );
    }
    tensor.to_device(&Device::Cpu)?.contiguous()
}

/// The elements in order, little endian; the outer error is a tensor's, the inner one the file's.
pub(super) fn write_elements(tensor: &Tensor, to: &mut impl Write) -> TensorResult<std::io::Result<()>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((begin, end)) = layout.contiguous_offsets() else { bail!("the tensor is not contiguous") };
    let Storage::Cpu(storage) = &*storage else { bail!("the tensor is not on the CPU") };
    Ok(match storage {
        CpuStorage::U8(values) => to.write_all(&values[begin..end]),
        CpuStorage::U32(values) => blocks(&values[begin..end], |x| x.to_le_bytes(), to),
        CpuStorage::I16(values) => blocks(&values[begin..end], |x| x.to_le_bytes(), to),
        CpuStorage::I32(values) => blocks(&values[begin..end], |x| x.to_le_bytes(), to),
        CpuStorage::I64(values) => blocks(&values[begin..end], |x| x.to_le_bytes(), to),
        CpuStorage::BF16(values) => blocks(&values[begin..end], |x| x.to_le_bytes(), to),
        CpuStorage::F16(values) => blocks(&values[begin..end], |x| x.to_le_bytes(), to),
        CpuStorage::F32(values) => blocks(&values[begin..end], |x| x.to_le_bytes(), to),
        CpuStorage::F64(values) => blocks(&values[begin..end], |x| x.to_le_bytes(), to),
        _ => bail!("tensors of {:?} are not written", tensor.dtype()),
    })
}

fn blocks<T: WithDType, const N: usize>(
    values: &[T],
    bytes_of: impl Fn(T) -> [u8; N],
    to: &mut impl Write,
) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(BLOCK * N);
    for block in values.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| bytes_of(*value)));
        to.write_all(&bytes)?;
    }
    Ok(())
}
