# SPDX-License-Identifier: Apache-2.0
"""The benchmarks. This file keeps another package of the name from being imported instead."""
