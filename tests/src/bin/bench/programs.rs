//! bench-ebpf's programs: the source of packets and the sinks that count them.

use std::{ops::Range, path::Path};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, PerCpuArray},
    programs::{
        PerfEvent, SchedClassifier, TcAttachType, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode,
        perf_event::{PerfEventConfig, PerfEventLink, PerfEventScope, SamplePolicy, SoftwareEvent},
        tc::qdisc_add_clsact,
        xdp::XdpLink,
    },
    util::KernelVersion,
};

/// What fits into a frame of bench-ebpf, in bytes.
const LARGEST: usize = 1536;

/// Sum and addresses of an IPv4 header in a frame.
const ENDS: Range<usize> = 24..34;

/// How many frames the kernel sends at a time. A veth's ring holds 256.
const BATCH: u32 = 64;

/// The first kernel that has TCX; older ones have clsact.
const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// The programs of one lane, loaded.
pub(crate) struct Programs {
    ebpf: Ebpf,
    /// The length of the frames that the source has.
    length: usize,
}

impl Programs {
    /// Loads them for these devices: what the source sends out of, and what packets are to arrive on.
    pub(crate) fn load(objects: &Path, out: u32, tunnel: u32) -> Result<Self> {
        Self::load_with(objects, &[("OUT", out), ("TUNNEL", tunnel)])
    }

    /// Loads them for packets that leave by this device and are timed from the first to the last.
    pub(crate) fn load_timed(objects: &Path, out: u32) -> Result<Self> {
        Self::load_with(objects, &[("OUT", out), ("TIMED", 1)])
    }

    fn load_with(objects: &Path, globals: &[(&str, u32)]) -> Result<Self> {
        let object = objects.join("bench.bpf.o");
        let mut loader = EbpfLoader::new();
        for (name, value) in globals {
            loader.override_global(name, value, true);
        }
        let mut ebpf = loader
            .load_file(&object)
            .with_context(|| format!("loading {} (`cargo xtask bench` builds it)", object.display()))?;
        source(&mut ebpf)?.load().context("loading the source of packets")?;
        Ok(Self { ebpf, length: 0 })
    }

    /// Puts one of the TC programs on a device.
    pub(crate) fn on(&mut self, program: &str, device: &str, direction: TcAttachType) -> Result<()> {
        let classifier: &mut SchedClassifier =
            self.ebpf.program_mut(program).with_context(|| format!("no program {program}"))?.try_into()?;
        classifier.load().with_context(|| format!("loading {program}"))?;
        attach(classifier, device, direction).with_context(|| format!("putting {program} on {device}"))
    }

    /// Lets frames that arrive on a device end there, before the stack sees them, until what this gives is dropped.
    pub(crate) fn end_frames_on(&mut self, device: &str) -> Result<XdpLink> {
        self.native("count_and_drop_frames", device)
    }

    /// Lets a program look at frames that arrive on a device and go on, until what this gives is dropped.
    pub(crate) fn pass_frames_on(&mut self, device: &str) -> Result<XdpLink> {
        self.native("pass_frames", device)
    }

    fn native(&mut self, program: &str, device: &str) -> Result<XdpLink> {
        let xdp: &mut Xdp = self.ebpf.program_mut(program).context("no such program")?.try_into()?;
        if xdp.fd().is_err() {
            xdp.load().with_context(|| format!("loading {program}"))?;
        }
        let link = xdp.attach(device, XdpMode::Driver);
        let link = link.with_context(|| format!("putting {program} on {device}"))?;
        Ok(xdp.take_link(link)?)
    }

    /// Lets everything pass where timed packets end, or nothing.
    pub(crate) fn open_sink(&mut self, open: bool) -> Result<()> {
        let mut map: Array<_, u32> = self.map("OPEN")?.try_into()?;
        Ok(map.set(0, u32::from(open), 0)?)
    }

    /// Nanoseconds from the first packet's beginning to the last one's end, since this was asked before.
    pub(crate) fn took(&mut self) -> Result<u64> {
        let mut map: Array<_, [u64; 2]> = self.map("TIMES")?.try_into()?;
        let [first, last] = map.get(&0, 0)?;
        map.set(0, [0; 2], 0)?;
        Ok(last.saturating_sub(first))
    }

    /// Counts where this CPU is every so many nanoseconds, until what this gives is dropped.
    pub(crate) fn sample_every(&mut self, nanoseconds: u64) -> Result<PerfEventLink> {
        let sample: &mut PerfEvent =
            self.ebpf.program_mut("sample").context("no such program")?.try_into()?;
        if sample.fd().is_err() {
            sample.load().context("loading sample")?;
        }
        let clock = PerfEventConfig::Software(SoftwareEvent::CpuClock);
        let everybody = PerfEventScope::AllProcessesOneCpu { cpu: 0 };
        let link = sample.attach(clock, everybody, SamplePolicy::Period(nanoseconds), false);
        Ok(sample.take_link(link.context("sampling the CPU")?)?)
    }

    /// How often each instruction was met since this was asked before.
    pub(crate) fn samples(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut map: HashMap<_, u64, u64> = self.map("SAMPLES")?.try_into()?;
        let samples = map.iter().collect::<Result<Vec<_>, _>>()?;
        for (at, _) in &samples {
            map.remove(at)?;
        }
        Ok(samples)
    }

    /// What the source sends from now on: these frames, one after the other, all of one length, in a circle.
    pub(crate) fn fill(&mut self, frames: &[Vec<u8>]) -> Result<()> {
        let length = frames.first().context("no frames")?.len();
        ensure!(
            length <= LARGEST && frames.iter().all(|frame| frame.len() == length),
            "frames of one length"
        );
        let mut map: Array<_, [u8; LARGEST]> = self.map("FRAMES")?.try_into()?;
        for (index, frame) in (0..).zip(frames) {
            let mut value = [0; LARGEST];
            value[..length].copy_from_slice(frame);
            map.set(index, value, 0)?;
        }
        self.begin(frames.len(), length, false)
    }

    /// As [`Self::fill`], for frames that differ only by their ends: the addresses in the IPv4 header, and the sum over it.
    /// The kernel has little more to read for it than these.
    pub(crate) fn fill_with_ends(&mut self, frames: &[Vec<u8>]) -> Result<()> {
        let first = frames.first().context("no frames")?;
        let mut map: Array<_, [u8; 12]> = self.map("ENDS")?.try_into()?;
        for (index, frame) in (0..).zip(frames) {
            ensure!(
                frame.len() == first.len()
                    && frame[..ENDS.start] == first[..ENDS.start]
                    && frame[ENDS.end..] == first[ENDS.end..],
                "frames that differ by their ends alone"
            );
            let mut value = [0; 12];
            value[..ENDS.len()].copy_from_slice(&frame[ENDS]);
            map.set(index, value, 0)?;
        }
        self.fill(&frames[..1])?;
        self.begin(frames.len(), first.len(), true)
    }

    fn begin(&mut self, count: usize, length: usize, ends: bool) -> Result<()> {
        let mut cursor: Array<_, [u32; 4]> = self.map("CURSOR")?.try_into()?;
        cursor.set(0, [0, u32::try_from(count)?, u32::try_from(length)?, ends.into()], 0)?;
        self.length = length;
        Ok(())
    }

    /// Sends so many packets and says what each took, in nanoseconds, on this CPU and up to the end of its way, but for what
    /// the kernel has put off at the end. Around the packets the kernel waits for grace periods; that is not in it.
    pub(crate) fn send(&mut self, packets: u32) -> Result<f64> {
        let frame = vec![0; self.length];
        let result = source(&mut self.ebpf)?
            .test_run(TestRunOptions {
                data_in: Some(&frame),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            })
            .context("sending packets by BPF_PROG_TEST_RUN")?;
        Ok(result.duration.as_nanos() as f64)
    }

    /// How many packets have come to an end so far; segments of merged ones counted where the kernel has.
    pub(crate) fn counts(&mut self) -> Result<u64> {
        let map: PerCpuArray<_, [u64; 2]> = self.map("COUNTS")?.try_into()?;
        Ok(map.get(&0, 0)?.iter().map(|[packets, _]| packets).sum())
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.ebpf.map_mut(name).with_context(|| format!("bench.bpf.o has no map {name}"))
    }
}

fn source(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(ebpf.program_mut("source").context("bench.bpf.o has no program `source`")?.try_into()?)
}

/// Attaches a loaded program by whichever way this kernel has.
pub(crate) fn attach(program: &mut SchedClassifier, device: &str, direction: TcAttachType) -> Result<()> {
    if KernelVersion::current()? < TCX {
        // There already for another program, or it is told by what follows.
        let _ = qdisc_add_clsact(device);
    }
    program.attach(device, direction)?;
    Ok(())
}
