# FreeBSD from Linux: what cannot be run here is at least built and linked here.
# vagrant/freebsd/README.md says how; FreeBSD itself needs none of this, there `cargo build` does it.

.PHONY: freebsd freebsd-check

freebsd: ## link an ezz executable for FreeBSD (x86_64)
	@vagrant/setup freebsd
	@vagrant/freebsd/cross build

freebsd-check: ## type-check for FreeBSD: library, binary and all tests
	@vagrant/setup freebsd
	@vagrant/freebsd/cross check
