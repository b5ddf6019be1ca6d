//! The window against a sorted map that stands for the store.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 4;
const PAGE: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Set(u64, u8),
    Delete(u64),
    /// The watch is lost, and all that waits is read again.
    Lose,
    ForgetFrom(u64),
    /// Gives out so many of what is due by then.
    Take(u64, usize),
    /// What is done with the given one of this index.
    Settle(usize),
    ComeBack(usize),
    Again,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u64, 0..3_u8).prop_map(|(due_ms, payload)| Step::Set(due_ms, payload)),
        2 => (0..12_u64).prop_map(Step::Delete),
        1 => Just(Step::Lose),
        1 => (0..12_u64).prop_map(Step::ForgetFrom),
        5 => (0..14_u64, 1..4_usize).prop_map(|(now_ms, max)| Step::Take(now_ms, max)),
        2 => (0..4_usize).prop_map(Step::Settle),
        2 => (0..4_usize).prop_map(Step::ComeBack),
        2 => Just(Step::Again),
    ]
}

fn moment(due_ms: u64) -> Moment {
    Moment::new(due_ms, "")
}

fn payload(byte: u8) -> Bytes {
    Bytes::from(vec![byte])
}

/// A window and the store that it should show.
struct Both {
    window: Window,
    store: BTreeMap<u64, u8>,
    /// What is out, with the payload that it was given out with.
    out: Vec<(u64, u64, u8)>,
    back: Vec<(u64, u64, u8)>,
    now: Instant,
}

impl Both {
    fn follow(&mut self, step: &Step) {
        match *step {
            Step::Set(due_ms, byte) => {
                self.store.insert(due_ms, byte);
                self.window.stands(moment(due_ms), payload(byte));
                self.drop_stale();
            }
            Step::Delete(due_ms) => {
                self.store.remove(&due_ms);
                self.window.gone(&moment(due_ms));
                self.drop_stale();
            }
            Step::Lose => {
                let floor = self.window.forget_all();
                let out_of_window = |due_ms: &u64| !self.is_out(*due_ms);
                assert!(
                    self.store
                        .keys()
                        .filter(|due_ms| out_of_window(due_ms))
                        .all(|due_ms| moment(*due_ms) >= floor)
                );
            }
            Step::ForgetFrom(due_ms) => self.window.forget_from(&moment(due_ms)),
            Step::Take(now_ms, max) => self.take(now_ms, max),
            Step::Settle(index) if index < self.out.len() => {
                let (serial, due_ms, _) = self.out.remove(index);
                self.store.remove(&due_ms);
                self.window.settle(serial);
            }
            Step::ComeBack(index) if index < self.out.len() => {
                let out = self.out.remove(index);
                self.window.come_back(out.0, |_| self.now);
                self.back.push(out);
            }
            Step::Again => {
                while let Some((serial, moment)) = self.window.may_be_given_again(self.now) {
                    let stands = self.store.get(&moment.due_ms).copied().map(payload);
                    self.window.again(serial, stands);
                }
                self.back.clear();
            }
            Step::Settle(_) | Step::ComeBack(_) => {}
        }
        assert!(self.window.len() <= LIMIT, "{:?}", self.window);
    }

    fn is_out(&self, due_ms: u64) -> bool {
        self.out.iter().chain(&self.back).any(|(_, out, _)| *out == due_ms)
    }

    /// What no longer stands as it was given out doesn't count.
    fn drop_stale(&mut self) {
        let store = &self.store;
        for list in [&mut self.out, &mut self.back] {
            list.retain(|(_, due_ms, byte)| store.get(due_ms) == Some(byte));
        }
    }

    fn take(&mut self, now_ms: u64, max: usize) {
        while let Some(from) = self.window.read_on_from(max, now_ms) {
            let page: Vec<_> =
                self.store.iter().filter(|(due_ms, _)| moment(**due_ms) >= *from).take(PAGE).collect();
            let more = page.len() == PAGE;
            let page = page.into_iter().map(|(due_ms, byte)| (moment(*due_ms), payload(*byte))).collect();
            self.window.read(page, more);
        }
        let taken = self.window.take(now_ms, max);
        let due = self.store.iter().filter(|(due_ms, _)| **due_ms <= now_ms && !self.is_out(**due_ms));
        let expected: Vec<_> = due.take(max).map(|(due_ms, byte)| (*due_ms, *byte)).collect();
        let found: Vec<_> = taken.iter().map(|taken| (taken.moment.due_ms, taken.payload[0])).collect();
        // Fewer than are due only if the window is full of what is out.
        assert!(expected.starts_with(&found), "{expected:?} {found:?}");
        let full = self.out.len() + self.back.len() + found.len() == LIMIT;
        assert!(found.len() == expected.len() || full, "{expected:?} {found:?} {:?}", self.window);
        self.out.extend(taken.iter().map(|taken| (taken.serial, taken.moment.due_ms, taken.payload[0])));
    }
}

proptest! {
    #[test]
    fn gives_out_what_is_due_in_order(steps in prop::collection::vec(any_step(), 1..60)) {
        let window = Window::new(LIMIT, usize::MAX);
        let (out, back) = (Vec::new(), Vec::new());
        let mut both = Both { window, store: BTreeMap::new(), out, back, now: Instant::now() };
        for step in &steps {
            both.follow(step);
        }
        both.window.forget_all();
        for (serial, _, _) in both.out.drain(..).chain(both.back.drain(..)) {
            both.window.settle(serial);
        }
        prop_assert_eq!((both.window.bytes, both.window.len(), both.window.held.len()), (0, 0, 0));
    }
}

#[test]
fn bytes_are_limited_too() {
    let mut window = Window::new(100, 10);
    window.read((0..5).map(|due_ms| (moment(due_ms), Bytes::from_static(b"1234"))).collect(), false);
    assert_eq!(window.len(), 2);
    assert_eq!(window.take(9, 9).len(), 2);
    assert!(window.covers(&moment(1)) && !window.covers(&moment(2)));
}

#[test]
fn the_back_off_doubles_up_to_its_limit() {
    let wait = |attempt| back_off(attempt, Duration::from_secs(1), Duration::from_secs(300)).as_secs();
    assert_eq!([1, 2, 3, 9, 10, u32::MAX].map(wait), [1, 2, 4, 256, 300, 300]);
}
