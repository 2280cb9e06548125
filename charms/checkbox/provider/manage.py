#!/usr/bin/env python3
"""Entry point of Certlab's Checkbox provider, for ./manage.py validate, develop, build and install."""

from plainbox.provider_manager import N_, setup

setup(
    name="certlab",
    namespace="com.canonical.certlab",
    version="1.0",
    description=N_("Certlab's preflight checks, and jobs that try out a lab"),
    gettext_domain="certlab",
)
