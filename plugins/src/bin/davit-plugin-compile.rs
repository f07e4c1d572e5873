//! The compiler's process on its own, for tests and for those who embed the plugin host.

fn main() {
    std::process::exit(davit_plugins::compile_main());
}
