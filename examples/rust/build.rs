// SPDX-License-Identifier: Apache-2.0

//! Tells rustc where the installed library is: in the folder LIBHAKMEM_DIR, or where pkg-config says.

use std::env;
use std::process::Command;

/// What pkg-config says of the variable of hakmem.pc.
fn pkg_config(variable: &str) -> Result<String, String> {
    let wanted = format!("--variable={}", variable);
    let output = Command::new("pkg-config")
        .args([wanted.as_str(), "hakmem"])
        .output()
        .map_err(|error| format!("pkg-config does not run: {}", error))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_string());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn main() {
    for variable in ["LIBHAKMEM_DIR", "PKG_CONFIG_PATH"] {
        println!("cargo:rerun-if-env-changed={}", variable);
    }
    let folder = env::var("LIBHAKMEM_DIR").or_else(|_| pkg_config("libdir")).unwrap_or_else(|error| {
        eprintln!(
            "hakmem is not found. Set LIBHAKMEM_DIR to the folder of libhakmem.so, or PKG_CONFIG_PATH.\n{}",
            error
        );
        std::process::exit(1);
    });
    println!("cargo:rustc-link-search=native={}", folder);
    if env::var_os("CARGO_FEATURE_STATIC").is_some() {
        // Not bundled: the archive stays a library of its own behind the program's objects, in front of libc.
        println!("cargo:rustc-link-lib=static:-bundle=hakmem");
    } else {
        println!("cargo:rustc-link-lib=dylib=hakmem");
        // For the programs and tests of this package; a crate that depends on it sets its own, or ldconfig knows.
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder);
    }
    println!("cargo:libdir={}", folder);
}
