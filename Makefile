# Installs what `cargo build --release` has built. PREFIX and DESTDIR as everywhere; run as root on the machine itself, or into a package.
PREFIX ?= /usr/local
DESTDIR ?=
BINARY ?= $(or $(CARGO_TARGET_DIR),target)/release/onecred
SYSCONFDIR ?= /etc
# a program that does nothing; NixOS has it elsewhere
TRUE ?= /bin/true
SYSTEMD_CREDS ?= /usr/bin/systemd-creds
SYSTEMCTL ?= /usr/bin/systemctl
# a onecred that runs on this machine, to make man pages and completions with, where BINARY is for another
GENERATOR ?= $(BINARY)
# Drop-ins for newer systemd are installed by the version on this machine; packages set it.
SYSTEMD_VERSION ?= $(shell systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')

bin = $(DESTDIR)$(PREFIX)/bin
unit = $(DESTDIR)$(PREFIX)/lib/systemd/system
sysusers = $(DESTDIR)$(PREFIX)/lib/sysusers.d
catalog = $(DESTDIR)$(PREFIX)/lib/systemd/catalog
share = $(DESTDIR)$(PREFIX)/share/onecred
dbus = $(DESTDIR)$(PREFIX)/share/dbus-1
polkit = $(DESTDIR)$(PREFIX)/share/polkit-1/actions
man = $(DESTDIR)$(PREFIX)/share/man
bash = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zsh = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fish = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
doc = $(DESTDIR)$(PREFIX)/share/doc/onecred
etc = $(DESTDIR)$(SYSCONFDIR)/onecred
units = onecred.socket onecred-sealed.socket onecred.service onecred-resolver.socket onecred-resolver.service run-onecred-store.mount \
  run-onecred-rw.mount run-secrets.mount run-onecred-files.mount onecred-file@.service onecred-publish.service onecred-publish.target \
  onecred-host-key.service onecred-metrics.service onecred-metrics.timer
place = sed -e 's|/usr/bin/onecred|$(PREFIX)/bin/onecred|' -e 's|/usr/share/doc|$(PREFIX)/share/doc|' -e 's|/bin/true|$(TRUE)|' -e 's|/usr/bin/systemd-creds|$(SYSTEMD_CREDS)|' \
  -e 's|/usr/bin/systemctl|$(SYSTEMCTL)|'

# Limits of the socket through which units decrypt sealed credentials on systemd 258 and later. A daemon-reload applies them. Installed with every
# version, so that an upgrade to 258 needs no second installation: before 256 the socket does not exist, and 256 and 257 do not need the limits.
creds_limits = systemd-creds.socket.d/10-onecred.conf

# where cargo-auditable is installed, the binary tells what it is made of: cargo audit bin, and others, read it
AUDITABLE ?= $(shell cargo auditable --version >/dev/null 2>&1 && echo auditable)

# $(put) MODE FILE TARGET: installs a file by rename, because dbus-daemon and systemd may read a file as soon as it has its name
put = put() { new=$${3%/*}/.$${3\#\#*/}.new; install -m"$$1" "$$2" "$$new" && mv -f "$$new" "$$3"; }; put
# the same for a unit, with the paths of this installation
put_unit = put_unit() { text=$$($(place) "$$1") && printf '%s\n' "$$text" | { $(put) 644 /dev/stdin "$$2"; }; }; put_unit

.PHONY: build install uninstall notify deb deb-tools
build:
	cargo $(AUDITABLE) build --release --locked -p onecred

install:
	@test -x $(BINARY) || { echo "$(BINARY) is not there: run 'cargo build --release' first" >&2; exit 1; }
	install -d $(bin) $(unit) $(sysusers) $(share) $(doc) $(etc) $(dbus)/system-services $(dbus)/system.d $(polkit) $(catalog)
	@$(put) 755 $(BINARY) $(bin)/onecred
	@for u in $(units); do $(put_unit) units/systemd/$$u $(unit)/$$u || exit 1; done
	@if [ "$(SYSTEMD_VERSION)" -ge 253 ] 2>/dev/null; then install -d $(unit)/onecred.service.d && \
	  $(put_unit) units/systemd/onecred.service.d/10-notify-reload.conf $(unit)/onecred.service.d/10-notify-reload.conf; \
	  else rm -rf $(unit)/onecred.service.d; fi
	install -d $(unit)/$(dir $(creds_limits))
	@$(put) 644 units/systemd/$(creds_limits) $(unit)/$(creds_limits)
	@$(put) 644 units/sysusers.d/onecred.conf $(sysusers)/onecred.conf
	@$(put) 644 units/catalog/onecred.catalog $(catalog)/onecred.catalog
	@$(put_unit) units/dbus-1/system-services/org.onecred.Credentials1.service $(dbus)/system-services/org.onecred.Credentials1.service
	@$(put) 644 units/dbus-1/system.d/org.onecred.Credentials1.conf $(dbus)/system.d/org.onecred.Credentials1.conf
	@$(put) 644 units/polkit-1/actions/org.onecred.credentials1.policy $(polkit)/org.onecred.credentials1.policy
	@$(put) 644 units/schema/secrets.schema.json $(share)/secrets.schema.json
	rm -rf $(share)/generated
	$(GENERATOR) generate man $(share)/generated/man
	$(GENERATOR) generate completions $(share)/generated/completions
	install -d $(man)/man1 $(man)/man5 $(man)/man8 $(bash) $(zsh) $(fish)
	@for f in $(man)/man1/onecred.1 $(man)/man1/onecred-*.1; do \
	  [ -e "$(share)/generated/man/man1/$$(basename "$$f")" ] || rm -f "$$f" || exit 1; done
	@for f in $(share)/generated/man/*/*; do $(put) 644 $$f $(man)/$${f#$(share)/generated/man/} || exit 1; done
	@$(put) 644 $(share)/generated/completions/onecred.bash $(bash)/onecred
	@$(put) 644 $(share)/generated/completions/_onecred $(zsh)/_onecred
	@$(put) 644 $(share)/generated/completions/onecred.fish $(fish)/onecred.fish
	rm -r $(share)/generated
	@for f in docs/*.md README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE; do $(put) 644 $$f $(doc)/$$(basename $$f) || exit 1; done
	test -n "$(DESTDIR)" || $(MAKE) --no-print-directory notify

# Has the journal, systemd and the bus read what was installed or removed. What does not run reads it when it starts.
notify:
	journalctl --update-catalog
	test ! -d /run/systemd/system || systemctl daemon-reload
	test ! -S /run/dbus/system_bus_socket || \
	  busctl --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig

# Builds a package for Debian with cargo-deb; it builds the binary too, unless BINARY names one. DEB_VERSION is its version, DEB_FLAGS more for cargo-deb:
# who publishes it names himself, DEB_FLAGS="--maintainer 'NAME <ADDRESS>'", here and in debian/changelog.
DEB_VERSION ?=
DEB_FLAGS ?=
CARGO_DEB ?= cargo deb
deb-tools:
	@$(CARGO_DEB) --version >/dev/null 2>&1 || { echo "make deb needs cargo-deb; install it: cargo install --locked cargo-deb" >&2; exit 1; }
	@dpkg-shlibdeps --version >/dev/null 2>&1 || { echo "make deb needs dpkg-dev; install it: apt install dpkg-dev" >&2; exit 1; }

deb: deb-tools $(if $(filter file,$(origin BINARY)),build)
	rm -rf target/deb
	$(MAKE) install PREFIX=/usr DESTDIR=target/deb SYSTEMD_VERSION=252
	rm -r target/deb/etc target/deb/usr/share/doc/onecred/LICENSE-* target/deb/usr/share/doc/onecred/CHANGELOG.md
	install -d target/deb/usr/share/doc/onecred/examples
	install -D -m644 units/systemd/onecred.service.d/10-notify-reload.conf target/deb/usr/share/onecred/systemd-253/10-notify-reload.conf
	install -d target/deb/usr/share/onecred/systemd-258
	mv target/deb/usr/lib/systemd/system/$(creds_limits) target/deb/usr/share/onecred/systemd-258/10-onecred.conf
	rmdir target/deb/usr/lib/systemd/system/$(dir $(creds_limits))
	install -m644 debian/examples/secrets.json target/deb/usr/share/doc/onecred/examples/
	$(CARGO_DEB) --no-build $(if $(DEB_VERSION),--deb-version $(DEB_VERSION)) $(DEB_FLAGS)

uninstall:
	cd $(unit) && rm -rf $(units) onecred.service.d
	rm -f $(unit)/$(creds_limits); rmdir $(unit)/$(dir $(creds_limits)) 2>/dev/null || :
	rm -f $(dbus)/system-services/org.onecred.Credentials1.service $(dbus)/system.d/org.onecred.Credentials1.conf \
	  $(polkit)/org.onecred.credentials1.policy
	rm -f $(man)/man1/onecred.1 $(man)/man1/onecred-*.1 $(man)/man5/secrets.json.5 $(man)/man5/org.onecred.Credentials1.5 \
	  $(man)/man8/onecred.service.8 $(bash)/onecred $(zsh)/_onecred $(fish)/onecred.fish
	rm -f $(catalog)/onecred.catalog
	rm -rf $(bin)/onecred $(sysusers)/onecred.conf $(share) $(doc)
	test -n "$(DESTDIR)" || $(MAKE) --no-print-directory notify
