# The index of what can be done here. `make help` lists it; each target is quick the second time.

.DEFAULT_GOAL := help
.NOTPARALLEL:

PREFIX ?= /usr/local
LAB := vagrant/lab/lab
empty :=
space := $(empty) $(empty)
LAB_CACHE := $(or $(EZZ_LAB_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ezz-lab)
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Nextest may have been built by vagrant/setup, outside the user's own directories.
export PATH := $(PATH):$(LAB_CACHE)/tools/bin
# The OpenZFS series that `make lab` runs on, one after the other, and the one that everything else takes.
LAB_SERIES_ALL := 2.4 2.3
LAB_SERIES := $(or $(EZZ_LAB_ZFS),$(LAB_SERIES_ALL))
export EZZ_LAB_ZFS ?= 2.4

# That of vagrant/setup where there is one; its version is the one that deny.toml was written for.
DENY = $(or $(wildcard $(LAB_CACHE)/tools/bin/cargo-deny),cargo-deny)

# All is built with the same features, also for tests that need no lab: else everything is compiled twice.
BUILT := --workspace --features lab
# Tests that need a guest: the target `lab` of ezz, and all of the crate in zfs/.
LAB_ONES := kind(test) & (binary(lab) | package(ezz-zfs))
LAB_TESTS := $(BUILT) -E '$(LAB_ONES)'
# Those whose result may depend on the OpenZFS series: transactions, what interrupts them, mounts, properties. The first
# series runs all lab tests, each further one only these, and those that T names.
SERIES_ONES := kind(test) & (package(ezz-zfs) | (binary(lab) & test(/^($(subst $(space),|,$(strip \
	outside:: bare::broken:: bare::bulk:: bare::clone:: bare::contract:: bare::crowd:: bare::fallback:: bare::full:: \
	bare::init:: bare::inspector:: bare::install:: bare::kills:: bare::prune:: \
	bare::trouble:: bare::update:: sited::create:: sited::inspector:: sited::kills:: sited::run:: \
	sited::site:: sited::worlds::)))/)))
LAB_RUNNER := CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$(CURDIR)/vagrant/lab/runner

# The disk image that tests with a real world start from, made once per binary and world.
GOLDEN = world="$$($(LAB) world)" && cargo nextest run --cargo-quiet --no-run $(LAB_TESTS) && \
	$(LAB) golden site --size 4G --input "$(abspath $(TARGET))/debug/ezz" --input "$$world" -- \
	/bin/sh "$(CURDIR)/tests/lab/golden" "$(abspath $(TARGET))/debug/ezz" "$$world"

# How often lab-repeat runs them, and how many cuts lab-soak makes on each series, over all its scenarios. A cut
# has its record below SOAKED and is not made again: to begin anew, remove that directory.
REPEAT ?= 10
CUTS ?= 840
SOAKED := $(abspath $(TARGET))/soak
SOAK_ONES := binary(lab) & test(/^outside::(cut|world|moved)::|::kills::|::hostile::|::fleets::/)

.PHONY: help
help: ## this list
	@printf 'ezz: jails on ZFS. Targets:\n\n'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | \
		awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## install what building and testing needs (Debian 12, 13); others call it
	@vagrant/setup test
	@vagrant/setup lab

.PHONY: build
build: ## the debug binary
	@vagrant/setup build
	cargo build --bin ezz

.PHONY: demo
demo: build ## a real Debian world, a sealed basejail, running jails: on this host if it has OpenZFS (as root), else in the lab
	@vagrant/setup demo
	@vagrant/demo "$(abspath $(TARGET))/debug/ezz"

.PHONY: test
test: check lab $(if $(wildcard vagrant/freebsd.mk),freebsd) ## everything that can be tested on this machine

.PHONY: check
check: ## format, lints, host tests, documentation, dependencies: under two minutes when warm
	@vagrant/setup check
	cargo fmt --all --check
	cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
	cargo clippy --workspace --features lab,bench --all-targets -- -D warnings
	cargo nextest run $(BUILT) -E 'not ($(LAB_ONES))'
	cargo test --quiet $(BUILT) --doc
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps
	@if $(DENY) --version >/dev/null 2>&1; then $(DENY) --log-level error check licenses bans sources && \
		if timeout 60 $(DENY) --log-level off fetch db >/dev/null 2>&1; then \
			$(DENY) --log-level error check --disable-fetch advisories; \
		else echo 'check: the database of advisories cannot be reached: advisories were not looked at'; fi; \
		else echo 'check: cargo-deny is not installed: dependencies were not looked at'; fi
	@if command -v shellcheck >/dev/null; then shellcheck -x -P SCRIPTDIR vagrant/setup vagrant/demo vagrant/lab/lab vagrant/lab/runner vagrant/lab/selftest vagrant/lab/suite vagrant/lab/soak-report \
		vagrant/lab/demo.sh vagrant/lab/bench.sh vagrant/lab/guest/shell vagrant/freebsd/cross vagrant/freebsd/scenarios.sh vagrant/freebsd/scenarios/*.sh \
		vagrant/machines/run vagrant/machines/runner vagrant/machines/debian.sh vagrant/machines/freebsd.sh \
		templates/rc.d/ezz templates/deb/postinst .ci/run tests/fuzz/run tests/bugs/try; \
		else echo 'check: shellcheck is not installed: the scripts were not looked at'; fi

.PHONY: lab
lab: ## the tests on real OpenZFS kernels: all on 2.4, on 2.3 those that may differ; EZZ_LAB_ZFS=2.3: all on that, T=NAME: one test
	@vagrant/setup test
	@vagrant/setup lab
	vagrant/lab/suite '$(LAB_SERIES)' '$(LAB_ONES)' '$(if $(T),$(LAB_ONES),$(SERIES_ONES))' $(BUILT) $(T)

.PHONY: lab-soak
lab-soak: ## CUTS power cuts (840: 30 for each scenario) on each series of OpenZFS, kills at each step, long races, and a report; goes on where it was stopped
	@vagrant/setup test
	@vagrant/setup lab
	@mkdir -p $(SOAKED)
	@EZZ_SOAK="$(SOAKED)" EZZ_CUT_SEED=1 EZZ_CUTS=$$((($(CUTS) + 27) / 28)) EZZ_KILL_EVERY=1 EZZ_ROUNDS=11 EZZ_RACE=60 EZZ_FLEET=500 EZZ_LAB_TIMEOUT=1800 \
		vagrant/lab/suite '$(LAB_SERIES)' '$(SOAK_ONES)' '$(SOAK_ONES)' $(BUILT) $(T) || \
		echo 'lab-soak: not all has passed'
	@vagrant/lab/soak-report "$(SOAKED)"

.PHONY: lab-repeat
lab-repeat: ## the lab tests REPEAT times (10), with a count of what failed how often
	@vagrant/setup test
	@vagrant/setup lab
	@$(LAB) kernel && $(LAB) userland && $(LAB) world inits >/dev/null && $(LAB) world services >/dev/null
	@$(GOLDEN)
	@$(MAKE) -s $(TARGET)/debug/ezz.deb
	@mkdir -p $(TARGET)/repeat; good=0; bad=0; for n in $$(seq $(REPEAT)); do \
		if $(LAB_RUNNER) cargo nextest run --profile lab $(LAB_TESTS) $(T) >$(TARGET)/repeat/$$n.log 2>&1; \
		then good=$$((good + 1)); else bad=$$((bad + 1)); fi; \
		printf 'repeat %s: %s\n' $$n "$$(grep -h '^ *Summary' $(TARGET)/repeat/$$n.log || echo 'no summary')"; done; \
	grep -hoE '^ +(FAIL|TIMEOUT|SIG[A-Z]+) \[[^]]*\] .*' $(TARGET)/repeat/*.log | sed -E 's/\[[^]]*\] *(\([^)]*\))?//' | \
		sort | uniq -c | sort -rn; \
	echo "repeat: $$good of $$((good + bad)) runs passed (logs: $(TARGET)/repeat)"; [ $$bad -eq 0 ]

.PHONY: bugs
bugs: ## put each bug of tests/bugs into a copy: the tests must notice; T=NAME for those that begin so
	@vagrant/setup test
	@vagrant/setup lab
	@$(LAB) kernel && $(LAB) userland
	tests/bugs/try $(T)

# Seconds for each fuzz target; all of them, or those named in T.
FUZZ_SECONDS ?= 600

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZ_SECONDS (600), two at a time; T=TARGET for one
	@vagrant/setup build
	@vagrant/setup fuzz
	tests/fuzz/run $(FUZZ_SECONDS) $(T)

# Rounds of each measurement, the largest site, and the memory that it needs: 0.8 MiB for each mounted jail.
BENCH_ROUNDS ?= 5
BENCH_JAILS ?= 10000
BENCH_MEM ?= 12288M
BENCHED := $(abspath $(TARGET))/bench

.PHONY: bench
bench: release ## what jails, worlds and updates cost against the ways without ezz: target/bench/bench.md, .json, plots (an hour)
	@vagrant/setup lab
	cargo build --release --features bench --bin ezz-bench
	@$(LAB) kernel $(LAB_SERIES) && for series in $(LAB_SERIES); do EZZ_LAB_ZFS=$$series $(LAB) userland; done
	@$(foreach series,$(LAB_SERIES), \
		export EZZ_LAB_ZFS=$(series); $(GOLDEN) >/dev/null && mkdir -p $(BENCHED)/$(series) && \
		EZZ_BIN="$(abspath $(RELEASE))" EZZ_LAB_OUT="$(BENCHED)/$(series)" $(LAB) run --golden site --mem $(BENCH_MEM) \
			--timeout 7200 -- "$(abspath $(TARGET))/release/ezz-bench" guest "$${world%.zst}.xz" $(BENCH_ROUNDS) $(BENCH_JAILS) && \
		$(LAB) run --golden site --mem 3072M --timeout 3600 -- /bin/bash vagrant/lab/bench.sh "$(abspath $(RELEASE))" && ) true
	@$(TARGET)/release/ezz-bench report $(BENCHED) $(foreach series,$(LAB_SERIES),$(BENCHED)/$(series)/bench.json)

.PHONY: shell
shell: build ## an interactive shell in the lab, with a site that is ready to play with
	@vagrant/setup lab
	@EZZ_LAB_BIN="$(abspath $(TARGET))/debug/ezz" $(LAB) shell

# What dot(1) says of itself in the result differs from machine to machine. The digest of the text takes its place:
# tests/docs.rs compares it.
.PHONY: pictures
pictures: ## draw docs/pictures/*.svg again from the texts beside them
	@vagrant/setup pictures
	@for text in docs/pictures/*.dot; do \
		digest=$$(sha256sum <"$$text" | cut -d' ' -f1) && \
		dot -Tsvg "$$text" | sed -E "/^<!-- Generated by graphviz/{N;s/.*/<!-- of $$(basename "$$text"), SHA-256 $$digest -->/}" \
			>"$${text%.dot}.svg" || exit 1; \
	done

.PHONY: doc
doc: ## the API documentation, in target/doc
	@vagrant/setup build
	cargo doc --workspace --no-deps

# `make freebsd` and `make vm-freebsd` are there, where their files are.
-include vagrant/freebsd.mk
-include vagrant/machines.mk

RELEASE := $(TARGET)/release/ezz
DEST := $(DESTDIR)$(PREFIX)

.PHONY: release
release: ## the binary that `make install` installs
	@vagrant/setup build
	cargo build --release --bin ezz

# What is installed, and for which system. A directory that a package wants elsewhere can be named.
BIN ?= $(RELEASE)
SYSTEM ?= $(shell uname -s)
MAN := $(DEST)/share/man/man8
TEMPLATES := $(DEST)/share/ezz/templates
BASH_DIR := share/bash-completion/completions
ZSH_DIR ?= share/zsh/site-functions
FISH_DIR := share/fish/vendor_completions.d
UNIT := $(DEST)/$(if $(filter FreeBSD,$(SYSTEM)),etc/rc.d/ezz,lib/systemd/system/ezz.service)
UNIT_FROM := templates/$(if $(filter FreeBSD,$(SYSTEM)),rc.d/ezz,systemd/ezz.service)

# Not built here: `sudo make install` must not run cargo as root in the user's tree.
.PHONY: install
install: ## install what `make release` built; PREFIX (/usr/local), DESTDIR
	@test -x $(BIN) || { echo 'install: run `make release` first' >&2; exit 1; }
	install -d $(DEST)/sbin $(TEMPLATES) $(dir $(UNIT)) $(MAN) $(DEST)/$(BASH_DIR) $(DEST)/$(ZSH_DIR) $(DEST)/$(FISH_DIR)
	install -m 755 $(BIN) $(DEST)/sbin/ezz
	rm -rf $(TEMPLATES)
	install -d $(TEMPLATES)
	cp -R templates/examples templates/profiles $(TEMPLATES)
	chmod -R u=rwX,go=rX $(TEMPLATES)
	sed 's|@PREFIX@|$(PREFIX)|g' $(UNIT_FROM) >$(UNIT)
	chmod $(if $(filter FreeBSD,$(SYSTEM)),555,644) $(UNIT)
	$(BIN) man $(MAN)
	$(BIN) completions bash >$(DEST)/$(BASH_DIR)/ezz
	$(BIN) completions zsh >$(DEST)/$(ZSH_DIR)/_ezz
	$(BIN) completions fish >$(DEST)/$(FISH_DIR)/ezz.fish
	chmod 644 $(MAN)/ezz*.8 $(DEST)/$(BASH_DIR)/ezz $(DEST)/$(ZSH_DIR)/_ezz $(DEST)/$(FISH_DIR)/ezz.fish

.PHONY: uninstall
uninstall: ## remove what `make install` installed; jails and pools are left alone
	rm -f $(DEST)/sbin/ezz $(UNIT) $(MAN)/ezz.8 $(MAN)/ezz-*.8
	rm -f $(DEST)/$(BASH_DIR)/ezz $(DEST)/$(ZSH_DIR)/_ezz $(DEST)/$(FISH_DIR)/ezz.fish
	rm -rf $(DEST)/share/ezz

# A Debian package lies beside its binary, where cargo-deb looks for what it is made of: the tree that
# `make install` makes, and its papers. The tests install one of the debug binary.
DOCUMENTS = $(@D)/stage/usr/share/doc/ezz
PACKAGED := Makefile Cargo.toml $(wildcard *.md) LICENSE $(shell find templates docs -type f)
$(TARGET)/%/ezz.deb: $(TARGET)/%/ezz $(PACKAGED)
	@vagrant/setup deb
	rm -rf $(@D)/stage
	@$(MAKE) -s install DESTDIR=$(abspath $(@D))/stage PREFIX=/usr SYSTEM=Linux BIN=$< ZSH_DIR=share/zsh/vendor-completions
	gzip -9n $(@D)/stage/usr/share/man/man8/*
	install -d $(DOCUMENTS)
	install -m 644 README.md GLOSSARY.md $(DOCUMENTS)
	install -d $(DOCUMENTS)/docs/pictures
	install -m 644 docs/*.md $(DOCUMENTS)/docs
	install -m 644 docs/pictures/*.svg $(DOCUMENTS)/docs/pictures
	gzip -9nc CHANGELOG.md >$(DOCUMENTS)/changelog.gz
	$(if $(filter debug,$*),,strip --strip-unneeded $(@D)/stage/usr/sbin/ezz)
	cargo deb --quiet --no-build --no-strip --locked --profile $(patsubst debug,dev,$*) $(if $(filter debug,$*),--fast) --output $@

.PHONY: deb
deb: release ## a Debian package of the release binary, in target/debian
	@$(MAKE) -s $(TARGET)/release/ezz.deb
	@mkdir -p $(TARGET)/debian
	@to="$(TARGET)/debian/$$(dpkg-deb -W --showformat='$${Package}_$${Version}_$${Architecture}.deb' $(TARGET)/release/ezz.deb)" && \
		cp -p $(TARGET)/release/ezz.deb "$$to" && echo "$$to"
