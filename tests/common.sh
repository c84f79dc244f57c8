# Sourced by ./run and tests/all, in the project's root: packages and builds.
# shellcheck shell=bash

die() {
	echo "run: $*" >&2
	exit 1
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Installs those of the packages that are missing.
need() {
	local package missing=() root=()

	for package; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "needs Debian's packages: ${missing[*]}"
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || die "root or sudo is needed to install: ${missing[*]}"
		root=(sudo)
	fi
	echo "run: installing ${missing[*]}"
	"${root[@]}" apt-get update -qq
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends "${missing[@]}" >/dev/null
}

# clang's sanitizer and fuzzer libraries are in a package with its version in the name.
need_clang_runtime() {
	local version

	version=$(dpkg-query -W -f '${Depends}' clang | grep -oE 'clang-[0-9]+' | head -n 1)
	need "libclang-rt-${version#clang-}-dev"
}

# configure DIRECTORY [OPTION...]
configure() {
	local directory=$1
	shift

	if [ -f "$directory/build.ninja" ]; then
		[ $# = 0 ] || meson configure "$directory" "$@"
	else
		meson setup "$directory" "$@" >/dev/null || {
			tail -n 20 "$directory/meson-logs/meson-log.txt" >&2
			exit 1
		}
	fi
}

# compile DIRECTORY [TARGET...]: quiet but for what goes wrong.
compile() {
	local log=$1/compile.log

	ninja -C "$@" >"$log" 2>&1 || {
		grep -vE '^\[[0-9]+/[0-9]+\] (Compiling|Linking|Generating)' "$log" | tail -n 60 >&2
		die "the build in $1 failed"
	}
}
