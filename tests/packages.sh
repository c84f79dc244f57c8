# Sourced by the setup scripts of tests that need Debian 13's packages on any machine: they come
# through the machine's own apt configuration and are unpacked, never installed; what is made of
# them is cached. Needs no root and no chroot.
# The script has set $cache, a folder of its own in $UVFIO_CACHE.
# shellcheck shell=bash disable=SC2154
# Names sort alike everywhere, and programs with no locale data of theirs don't complain.
export LC_ALL=C
trap 'say "failed at line $LINENO"' ERR

suite=trixie

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The archive that this machine uses for its own release, as "OPTIONS URI" for a line of
# sources.list. Reads both formats of apt's sources. A key that is written out inside the file is
# left to apt's trusted keys.
archive() {
	local release file files=()
	# shellcheck source=/dev/null
	release=$(. /etc/os-release && echo "$VERSION_CODENAME")
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{sources,list}; do
		[ ! -r "$file" ] || files+=("$file")
	done
	awk -v release="$release" '
		function ours(suite) {
			return suite == release || suite == "stable" || suite == "oldstable"
		}
		function use(uri, key, trusted,    options) {
			if (uri ~ /^cdrom:/)
				return
			options = key ~ /^\// ? "signed-by=" key : ""
			if (trusted == "yes")
				options = options (options != "" ? " " : "") "trusted=yes"
			print (options != "" ? "[" options "] " : "") uri
			found = 1
			exit
		}
		function stanza_ends(    n, i, suites) {
			n = split(field["suites"], suites, /[ \t]+/)
			for (i = 1; i <= n; i++)
				if (ours(suites[i]) && field["enabled"] != "no" &&
				    field["types"] ~ /(^|[ \t])deb([ \t]|$)/) {
					split(field["uris"], uris, /[ \t]+/)
					use(uris[1], field["signed-by"], field["trusted"])
				}
			split("", field)
		}
		FNR == 1 && !found { stanza_ends() }
		/^[ \t]*#/ { next }
		FILENAME ~ /\.sources$/ {
			if ($0 ~ /^[ \t]*$/)
				stanza_ends()
			else if ($0 ~ /^[A-Za-z-]+:/) {
				name = tolower($0); sub(/:.*/, "", name)
				value = $0; sub(/^[^:]*:[ \t]*/, "", value)
				field[name] = value
			} else if (name != "signed-by") {
				value = $0; sub(/^[ \t]+/, "", value)
				field[name] = field[name] (field[name] != "" ? " " : "") value
			}
			next
		}
		$1 == "deb" {
			line = $0; key = ""; trusted = ""
			if (match(line, /\[[^]]*\]/)) {
				options = substr(line, RSTART + 1, RLENGTH - 2)
				sub(/\[[^]]*\]/, "", line)
				n = split(options, option, /[ \t]+/)
				for (i = 1; i <= n; i++) {
					if (option[i] ~ /^signed-by=/) key = substr(option[i], 11)
					if (option[i] ~ /^trusted=/) trusted = substr(option[i], 9)
				}
			}
			split(line, word, /[ \t]+/)
			if (ours(word[3]))
				use(word[2], key, trusted)
		}
		END { if (!found) stanza_ends() }
	' "${files[@]}" /dev/null
}

# apt with a world of its own in $apt: no installed package, our two suites, this machine's proxies
# and credentials.
apt_setup() {
	local source
	source=$(archive)
	[ -n "$source" ] || die "no archive for this machine's release in apt's sources"
	mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial
	: >"$apt/status"
	(umask 077; printf "deb $source %s main\n" "$suite" "$suite-backports" >"$apt/sources.list")
	cat >"$apt/apt.conf" <<-CONF
		Dir::State "$apt";
		Dir::State::lists "$apt/lists";
		Dir::State::status "$apt/status";
		Dir::Cache "$apt/cache";
		Dir::Etc::sourcelist "$apt/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		APT::Architecture "amd64";
		APT::Architectures "amd64";
		APT::Default-Release "";
		APT::Install-Recommends "false";
		APT::Install-Suggests "false";
		APT::Keep-Downloaded-Packages "true";
		APT::Sandbox::User "";
		Acquire::Check-Valid-Until "false";
		Acquire::Languages "none";
		Acquire::Retries "3";
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Pre-Install-Pkgs;
		#clear DPkg::Pre-Invoke;
		#clear DPkg::Post-Invoke;
	CONF
	quietly apt-get -c "$apt/apt.conf" update
}

# Runs a command whose output matters only when it fails.
quietly() {
	local log
	log=$("$@" 2>&1 </dev/null) || { printf '%s\n' "$log" >&2; die "failed: $*"; }
}

unpack() { # DEB FOLDER
	dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink --no-same-owner \
		--exclude='./usr/share/'{doc,man,locale}'/*'
}

# Checks that this can work here, and takes the cache: one setup of a kind at a time.
cache_begin() {
	local tool
	for tool in apt-get dpkg-deb flock awk tar sha256sum; do
		command -v "$tool" >/dev/null || die "$tool is not here"
	done
	[ "$(dpkg --print-architecture)" = amd64 ] || die "not an amd64 machine, as the packages are"
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock -n 9 || { say "waiting for another setup"; flock 9; }
	# We hold the lock, so what is there was left by one that was interrupted.
	rm -rf "$cache"/.making.*
}

# Parts of other recipes stay for other work trees, until nobody has used them for two weeks.
cache_end() {
	find "$cache" -mindepth 1 -maxdepth 1 -type d -name '*-*' -mtime +14 -exec rm -r {} +
}

recipe() { declare -f "$@"; }

# What a part is made of, as one word: another word, another folder in the cache.
key_of() { printf '%s\n' "$@" | sha256sum | cut -c 1-12; }

# Sets the variable NAME to the folder of the part NAME, which is made first when there is none of
# that recipe.
part() { # NAME RECIPE...
	local name=$1 began folder temporary
	shift
	folder=$cache/$name-$(key_of "$@")
	if [ ! -d "$folder" ]; then
		say "$name ..."
		began=$(date +%s)
		temporary=$(mktemp -d "$cache/.making.XXXXXX")
		chmod 755 "$temporary"
		"make_$name" "$temporary"
		mv -T "$temporary" "$folder"
		say "$name: $(($(date +%s) - began)) s, $(du -sh "$folder" | cut -f 1)"
	fi
	# Says that it is in use, to cache_end().
	touch "$folder"
	printf -v "$name" %s "$folder"
}
