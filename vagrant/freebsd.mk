# FreeBSD from Linux: code that cannot be run here is at least built and linked here. See vagrant/freebsd/README.md.
# FreeBSD itself needs none of this: `cargo build` works there.

.PHONY: freebsd freebsd-check freebsd-vm

freebsd: ## link ezz and all test programs for FreeBSD (x86_64)
	@vagrant/setup freebsd
	@vagrant/freebsd/cross tests

freebsd-check: ## type-check for FreeBSD: library, binary and all tests
	@vagrant/setup freebsd
	@vagrant/freebsd/cross check

freebsd-vm: ## run the scenarios on a real FreeBSD under qemu: IMAGE=file.qcow2, or KERNEL=file ROOT=image
	@vagrant/setup freebsd
	@vagrant/setup freebsd-vm
	@vagrant/freebsd/cross build
	@vagrant/freebsd/vm $(if $(IMAGE),--image "$(IMAGE)") $(if $(KERNEL),--kernel "$(KERNEL)") \
		$(if $(ROOT),--root "$(ROOT)") $(VM_ARGS)
