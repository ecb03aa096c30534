//! A control group of a machine's own, below which its processes make others.

use std::time::Duration;

use crate::netns::{Netns, checked, wait_for};

/// It takes 1 s.
const DEADLINE: Duration = Duration::from_secs(30);

/// Lines for a shell in the machine, with the machine's name in `NAME`: it goes into the group, which may be there already.
pub const ENTER: &str = r#"mkdir -p /run/cgroup
mount -t cgroup2 cgroup2 /run/cgroup
mkdir -p "/run/cgroup/$NAME"
echo $$ > "/run/cgroup/$NAME/cgroup.procs"
umount /run/cgroup
"#;

/// Removes the group and what is below it, or says why not.
pub fn remove(machine: &Netns) {
    let group = machine.name();
    let remove = format!(
        "mkdir -p /run/cgroup && mount -t cgroup2 cgroup2 /run/cgroup && \
         {{ [ ! -d /run/cgroup/{group} ] || find /run/cgroup/{group} -depth -type d -exec rmdir {{}} +; }}; \
         status=$?; umount /run/cgroup; exit $status"
    );
    // Processes that are ending are in their groups still.
    let removed = wait_for("its control groups to go", DEADLINE, || {
        checked(machine.command("sh").args(["-c", &remove])).map(drop)
    });
    if let Err(error) = removed {
        eprintln!("{error:#}");
    }
}
