# The image of every task. `make image-cpu` builds the one of the tasks without GPUs, by other arguments:
#   docker build --build-arg BUILD_IMAGE=IMAGE --build-arg RUNTIME_IMAGE=IMAGE --build-arg REQUIREMENTS=requirements.txt \
#     --build-arg TORCH_INDEX=URL --build-arg DEEPSPEED_OPS= --build-arg TRITON_COMPILER= .
# with any Debian or Ubuntu IMAGE. Both base images must have the same Python, 3.11 or 3.12, or no Python yet.
ARG BUILD_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
ARG RUNTIME_IMAGE=nvidia/cuda:13.0.2-runtime-ubuntu24.04

FROM ${BUILD_IMAGE} AS build
# DeepSpeed's ops to compile in the image, because the pod has no CUDA compiler; empty compiles none. CPU_ADAM is for
# offloaded optimizer state. It is compiled for the CPU of the build, so build on the CPU model of the GPU nodes.
ARG DEEPSPEED_OPS="CPU_ADAM"
RUN missing="$(command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || echo python3 python3-venv) \
      ${DEEPSPEED_OPS:+g++ python3-dev}"; \
    [ -z "$(echo $missing)" ] || { apt-get update && apt-get install -y --no-install-recommends $missing \
      && rm -rf /var/lib/apt/lists/*; }
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
# The dependencies have a separate layer, so a change of code does not reinstall them.
COPY requirements*.txt ./
# The package index that torch alone comes from, such as that of its CPU builds; empty takes it from where the rest is.
ARG TORCH_INDEX=""
RUN [ -z "${TORCH_INDEX}" ] || pip install --no-cache-dir --no-compile --no-deps --index-url "${TORCH_INDEX}" \
      "$(grep '^torch==' requirements.txt)"
ARG REQUIREMENTS="requirements.txt requirements-gpu.txt"
RUN for file in ${REQUIREMENTS}; do pip install --no-cache-dir --no-compile -r "$file" || exit 1; done
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0"
RUN [ -z "${DEEPSPEED_OPS}" ] || { for op in ${DEEPSPEED_OPS}; do export "DS_BUILD_$op=1"; done; \
      pip install --no-cache-dir --no-compile --no-deps --no-build-isolation --force-reinstall --no-binary deepspeed \
        "$(grep -i '^deepspeed==' requirements.txt)"; }
# The trackers for `training.report_to`: some of wandb, mlflow-skinny and tensorboard, with spaces between them.
ARG REPORTERS=""
RUN [ -z "${REPORTERS}" ] || pip install --no-cache-dir --no-compile -c requirements.txt \
      -c requirements-reporters.txt ${REPORTERS}

FROM ${RUNTIME_IMAGE}
# Triton compiles Liger's kernels in the pod, and needs a C compiler with Python's headers to start them.
ARG TRITON_COMPILER="gcc libc6-dev python3-dev"
# git reads sources, by ssh those like git@host:owner/name.
RUN missing="$(command -v python3 >/dev/null || echo python3) $(command -v git >/dev/null || echo git ca-certificates) \
      $(command -v ssh >/dev/null || echo openssh-client) ${TRITON_COMPILER}"; \
    [ -z "$(echo $missing)" ] || { apt-get update && apt-get install -y --no-install-recommends $missing \
      && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/flyte-llama/bin:/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/tmp/huggingface
# The code belongs to root, so a task cannot change what later processes run. It comes last on Python's search path.
COPY configs /opt/flyte-llama/configs
COPY flyte_llama /opt/flyte-llama/flyte_llama
COPY image /opt/flyte-llama/bin
RUN chmod -R u=rwX,go=rX /opt/flyte-llama \
    && echo /opt/flyte-llama > "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/flyte-llama.pth"
# Nothing needs to run as root. Flyte uses /root as its working directory, and unpacks code there that is registered
# without a new image: see image/pyflyte-fast-execute.
RUN id -u 1000 >/dev/null 2>&1 || useradd --uid 1000 --create-home flyte; chown 1000 /root
USER 1000
WORKDIR /root
ARG tag
ENV FLYTE_INTERNAL_IMAGE=${tag}
