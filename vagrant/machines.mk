# Virtual machines by Vagrant, for what neither the lab nor a cross-build can show: see vagrant/machines/README.md.

.PHONY: vm-freebsd vm-debian

vm-freebsd: freebsd ## FreeBSD 14 and 15 by Vagrant, with the scenarios; VM=freebsd14 for one of them, EZZ_BOX=box
	@vagrant/setup vagrant
	@failed=; for vm in $(or $(VM),freebsd14 freebsd15); do vagrant/machines/run $$vm || failed="$$failed $$vm"; done; \
		[ -z "$$failed" ] || { echo "vm-freebsd: failed:$$failed" >&2; exit 1; }

vm-debian: ## Debian 13 by Vagrant: OpenZFS as a module, demo, boot, the lab's tests; EZZ_VM_ZFS=2.4, T=NAME, EZZ_BOX=box
	@vagrant/setup vagrant
	@vagrant/machines/run $(or $(VM),debian13) $(T)
