#!/usr/bin/env bash
# Train on all GPUs of this machine, of several machines, or under SLURM. Arguments go to training/train.py.
# `reproduce TABLE` builds a table of the paper instead; its arguments go to analysis/reproduce.py.
#
#   bash train.sh --detector_path training/config/detector/clip_ln.yaml
#   GPUS=4 bash train.sh ...                                            four GPUs of this machine
#   NODES=2 NODE_RANK=0 MASTER=host0:29500 bash train.sh ...            on the first of two machines
#   NODES=2 NODE_RANK=1 MASTER=host0:29500 bash train.sh ...            on the second
#   srun --ntasks-per-node=1 --nodes=2 bash train.sh ...                under SLURM (one task per node)
#   RESTARTS=3 bash train.sh --log_dir logs/run --resume auto ...       continue from the last checkpoint after a crash
#   bash train.sh reproduce TABLE [--scale demo] [--check] ...          cross_domain, comparison, robustness, ablation or all
set -eu
cd "$(dirname "$0")"
case "${1:-}" in -h|--help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

python=${PYTHON:-python}
[ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && python=.venv/bin/python
if [ "${1:-}" = reproduce ]; then
  shift
  exec "$python" analysis/reproduce.py "$@"
fi
gpus=${GPUS:-$("$python" -c 'import torch; print(torch.cuda.device_count() or 1)')}
nodes=${NODES:-${SLURM_NNODES:-1}}
rank=${NODE_RANK:-${SLURM_NODEID:-0}}
if [ -n "${MASTER:-}" ]; then
  master=$MASTER
elif [ -n "${SLURM_JOB_NODELIST:-}" ]; then
  # A port of the job's own, so that two jobs may share their first machine.
  master=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):$((20000 + ${SLURM_JOB_ID:-0} % 20000))
elif [ "$nodes" -gt 1 ]; then
  echo "train.sh: NODES=$nodes needs MASTER=host:port, the first machine's address" >&2
  exit 2
else
  master=localhost:0
fi
# Processes meet anew after a restart. In the launcher's own store they would find the addresses of those that died
# (pytorch/pytorch#135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec "$python" -m torch.distributed.run --nnodes "$nodes" --node-rank "$rank" --nproc-per-node "$gpus" \
  --rdzv-backend c10d --rdzv-id "${RUN_ID:-${SLURM_JOB_ID:-clipdeepfake}}" --rdzv-endpoint "$master" --max-restarts "${RESTARTS:-0}" \
  training/train.py --ddp "$@"
