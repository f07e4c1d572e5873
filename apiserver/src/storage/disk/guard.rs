//! A fence around sled, which answers a damaged file with a panic.
use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static FENCED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it comes back as its message, and is not printed.
///
/// What `work` was busy with is in an unknown state after a panic and must not be used again.
pub(super) fn fenced<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let outer = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !FENCED.get() {
                outer(info);
            }
        }));
    });
    FENCED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    FENCED.set(false);
    result.map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked")
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::fenced;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(fenced(|| 1), Ok(1));
        assert_eq!(
            fenced(|| panic!("torn page")),
            Err::<(), _>("torn page".to_owned())
        );
        assert_eq!(
            fenced(|| panic!("page {}", 7)),
            Err::<(), _>("page 7".to_owned())
        );
    }
}
