//! What holds between documents and between sources; the messages themselves are in
//! `tests/invalid`.

use crate::resources::draft::Draft;
use crate::resources::{Reading, Resource, SourceName};

const HEAD: &str = "apiVersion: microcloud.dev/v1\n";

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!("{HEAD}kind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

fn read(documents: &[String], others: &[Resource]) -> Reading {
    let text = documents.concat();
    Draft::of_files(SourceName::Applied, [("a.yaml", text.as_bytes())]).check(others)
}

fn cluster() -> String {
    document(
        "Cluster",
        "c",
        "{initiator: m1, internalSubnet: 10.0.0.0/24}",
    )
}

fn member(name: &str, address: &str) -> String {
    document("Member", name, &format!("{{address: \"{address}\"}}"))
}

fn pool() -> String {
    document("StoragePool", "local", "{driver: zfs}")
}

fn disk(member: &str) -> String {
    document(
        "Disk",
        "d",
        &format!("{{member: {member}, path: /dev/disk/by-id/a, use: {{pool: local}}}}"),
    )
}

fn messages(reading: &Reading) -> Vec<String> {
    reading
        .broken
        .iter()
        .flat_map(|b| &b.diagnostics)
        .map(|d| d.message.clone())
        .collect()
}

fn names(reading: &Reading) -> Vec<String> {
    reading
        .resources
        .iter()
        .map(|r| r.reference().to_string())
        .collect()
}

#[test]
fn a_document_may_refer_to_what_another_source_has() {
    let base = read(&[cluster(), member("m1", "10.0.0.1"), pool()], &[]);
    assert_eq!(messages(&base), Vec::<String>::new());
    assert_eq!(
        messages(&read(&[disk("m1")], &base.resources)),
        Vec::<String>::new()
    );
    assert_eq!(
        messages(&read(&[disk("m2")], &base.resources)),
        ["there is no Member `m2`"]
    );
    // The other source's cluster says which subnet it is.
    assert_eq!(
        messages(&read(&[member("m2", "10.0.1.2")], &base.resources)),
        ["`10.0.1.2` is outside the internal subnet 10.0.0.0/24"]
    );
    assert_eq!(
        messages(&read(&[member("m2", "10.0.0.1")], &base.resources)),
        ["`10.0.0.1` is the address of `m1` as well"]
    );
}

#[test]
fn what_is_written_again_replaces_what_is_there() {
    let base = read(
        &[cluster(), member("m1", "10.0.0.1"), pool(), disk("m1")],
        &[],
    );
    assert_eq!(names(&base).len(), 4);
    for again in [
        cluster(),
        member("m1", "10.0.0.1"),
        member("m1", "10.0.0.9"),
        pool(),
        disk("m1"),
    ] {
        assert_eq!(
            messages(&read(&[again], &base.resources)),
            Vec::<String>::new()
        );
    }
}

#[test]
fn a_reference_to_a_document_that_does_not_decode_is_no_second_error() {
    let broken = member("m2", "10.0.0.2").replace("address", "adres");
    let reading = read(
        &[
            cluster(),
            member("m1", "10.0.0.1"),
            broken,
            pool(),
            disk("m2"),
        ],
        &[],
    );
    assert_eq!(messages(&reading).len(), 1, "{:?}", messages(&reading));
    assert!(names(&reading).contains(&"Disk/d".to_owned()));
}

#[test]
fn one_wrong_document_leaves_the_others_alone() {
    let reading = read(
        &[
            cluster(),
            member("m1", "10.0.0.1"),
            member("m2", "10.9.0.2"),
            pool(),
        ],
        &[],
    );
    assert_eq!(
        names(&reading),
        ["Cluster/c", "Member/m1", "StoragePool/local"]
    );
    assert_eq!(
        reading.broken[0]
            .reference
            .as_ref()
            .map(ToString::to_string),
        Some("Member/m2".to_owned())
    );
    assert!(!reading.shows_absence());
}

#[test]
fn two_documents_of_one_identity_are_both_wrong() {
    let profile = |cpu| {
        document(
            "Profile",
            "p",
            &format!("{{config: {{limits.cpu: {cpu}}}}}"),
        )
    };
    let reading = read(&[profile(1), profile(2)], &[]);
    assert_eq!((reading.resources.len(), reading.broken.len()), (0, 2));
    // The same name in another project is another identity.
    let elsewhere = profile(2).replace("{name: p}", "{name: p, project: web}");
    assert_eq!(read(&[profile(1), elsewhere], &[]).resources.len(), 2);
}

#[test]
fn a_single_profile_needs_nothing_else() {
    let spec = "{devices: {root: {type: disk, path: /, pool: nowhere}, eth0: {type: nic, network: nowhere}}}";
    assert_eq!(
        messages(&read(&[document("Profile", "p", spec)], &[])),
        Vec::<String>::new()
    );
}

#[test]
fn everything_may_be_ipv6() {
    let documents = [
        document(
            "Cluster",
            "c",
            "{initiator: m1, internalSubnet: \"fd00::/64\", ovn: {provider: external, underlaySubnet: \"fd01::/64\", northbound: [\"ssl:[fd00::1]:6641\"]}, ceph: {provider: packaged, publicNetwork: \"fd02::/64\"}}",
        ),
        document(
            "Member",
            "m1",
            "{address: \"fd00::1\", underlayAddress: \"fd01::1\"}",
        ),
        document(
            "Uplink",
            "U",
            "{interface: enp6s0, ipv6: {gateway: \"2001:db8::1/64\", ranges: [\"2001:db8::100-2001:db8::1ff\"]}, dns: [\"2001:db8::53\"]}",
        ),
        document(
            "Network",
            "n",
            "{type: ovn, uplink: U, config: {ipv6.address: \"fd42::1/64\", ipv4.address: none}}",
        ),
    ];
    let reading = read(&documents, &[]);
    assert_eq!(messages(&reading), Vec::<String>::new());
    assert_eq!(reading.resources.len(), 4);
}
