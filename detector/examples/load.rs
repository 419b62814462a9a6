use aya::{EbpfLoader, programs::SchedClassifier};
fn main() {
    let bytes = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let dir = "/sys/fs/bpf/scratch-load";
    let _ = std::fs::create_dir_all(dir);
    let r = (|| -> Result<(), Box<dyn std::error::Error>> {
        let mut bpf = EbpfLoader::new().default_map_pin_directory(dir).load(&bytes)?;
        let names: Vec<String> = bpf.programs().map(|(n, _)| n.to_string()).collect();
        for n in names {
            let p: &mut SchedClassifier = bpf.program_mut(&n).unwrap().try_into()?;
            p.load()?;
            let i = p.info()?;
            println!(
                "{n}: jited {} xlated {:?} verified {:?}",
                i.size_jitted(),
                i.size_translated(),
                i.verified_instruction_count()
            );
        }
        Ok(())
    })();
    let _ = std::fs::remove_dir_all(dir);
    if let Err(e) = r {
        let mut s: Option<&dyn std::error::Error> = Some(&*e);
        while let Some(x) = s {
            let t = x.to_string();
            let n = t.len();
            println!("{}", &t[n.saturating_sub(6000)..]);
            s = x.source();
        }
        std::process::exit(1)
    }
}
