# configs/pretrain/tiny.yaml under `xtuner train`, on one device:
#   xtuner train configs/xtuner/pretrain_tiny.py
# Everything that is not here (data, optimiser, steps, logs, checkpoints) is read from the YAML file.
from mmengine.optim import OptimWrapper

from colva.training.xtuner_parts import Flow, Optimiser, Schedule, StepLoop, Tuner

# changes: as for `colva train --set`; resume: go on from the newest complete checkpoint, if there is one
run = dict(config="configs/pretrain/tiny.yaml", changes=[], resume=False)

model = dict(type=Tuner, **run)
train_dataloader = dict(batch_size=8)  # run.micro_batch
train_cfg = dict(type=StepLoop, **run)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=Optimiser, **run),
    accumulative_counts=1,  # run.batch over run.micro_batch and the number of devices
    clip_grad=dict(max_norm=1.0),  # optimiser.clip
)
param_scheduler = [dict(type=Schedule, **run)]
env_cfg = dict(dist_cfg=dict(backend="nccl"))  # which `--deepspeed` does not do without
custom_hooks = [dict(type=Flow, **run)]
default_hooks = dict(runtime_info=None, timer=None, sampler_seed=None, logger=None, checkpoint=None)
