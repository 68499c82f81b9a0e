#!/bin/sh
# Set up the environment: ./.venv from pinned requirements, the project in editable mode. Run it again at any time.
#
#   sh install.sh            make or bring up to date ./.venv
#   sh install.sh --here     install into the active virtual or conda environment instead
#   PYTHON=python3.12 sh install.sh     choose the interpreter (3.10, 3.11 or 3.12)
set -eu
cd "$(dirname "$0")"

fail() { echo "install.sh: $*" >&2; exit 2; }
supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

case "${1:-}" in
  "") here=no ;;
  --here) here=yes ;;
  -h|--help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) fail "unknown option $1; use --here or nothing" ;;
esac

if [ "$here" = yes ]; then
  [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || fail "--here needs an active virtual or conda environment; activate one first"
  python=${PYTHON:-python}
  supported "$python" || fail "$python is not Python 3.10, 3.11 or 3.12; activate another environment"
  home=${VIRTUAL_ENV:-$CONDA_PREFIX}
else
  python=${PYTHON:-}
  if [ -z "$python" ]; then
    for candidate in python3.11 python3.12 python3.10 python3; do
      if supported "$candidate"; then python=$candidate; break; fi
    done
  fi
  [ -n "$python" ] || fail "no Python 3.10, 3.11 or 3.12 found; install one, or name it: PYTHON=/path/to/python sh install.sh"
  supported "$python" || fail "$python is not Python 3.10, 3.11 or 3.12"
  home=$PWD/.venv
  if [ ! -x "$home/bin/python" ]; then
    "$python" -m venv "$home" || fail "cannot make $home; on Debian and Ubuntu the package python3-venv is needed"
  fi
  python=$home/bin/python
fi

# What is installed is a function of these files and of where they lie; when none has changed there is nothing to do.
wanted=$(cat requirements.txt pyproject.toml install.sh | cksum; pwd)
stamp=$home/.clipdeepfake-installed
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  echo "environment is up to date: $home"
  exit 0
fi
rm -f "$stamp"
echo "installing into $home (several minutes the first time) ..."
"$python" -m pip --disable-pip-version-check install --quiet --requirement requirements.txt
"$python" -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
"$python" - <<'PY' || fail "the installation does not work; the message above says why"
import cv2, dlib, lmdb, open_clip, timm, torch, torchvision  # noqa: F401
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)  # a mismatched pair fails here
print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, CUDA {'yes' if torch.cuda.is_available() else 'no'}")
PY
echo "$wanted" > "$stamp"
echo "done: $home"
