//! The authority and the certificates of the hosts.

use super::{Assertion, CENTRALS, OvnCloud, assertions, guarded};
use crate::check::{Failure, Outcome, is, same};
use microcloud::services::host::{OvnAnswer, OvnRequest};

pub fn assertions() -> Vec<Assertion> {
    assertions![
        a_fresh_host_has_nothing_of_ovn_but_its_packages,
        without_the_authority_nothing_is_shared_and_nothing_signed,
        the_authority_is_made_once,
        databases_over_tls_need_a_certificate_first,
        a_certificate_is_for_the_addresses_it_was_asked_for,
        an_authority_that_is_kept_is_not_replaced,
    ]
}

async fn a_fresh_host_has_nothing_of_ovn_but_its_packages(cloud: &dyn OvnCloud) -> Outcome {
    for number in 0..cloud.hosts().len() {
        let report = cloud.report(number).await?;
        is(report.installed, format!("it is not installed: {report:?}"))?;
        same(report.problem, None::<String>)?;
        let central = &report.central;
        is(
            report.authority.is_none() && report.certificate.is_none(),
            "it has certificates",
        )?;
        is(
            !central.is_ours() && !central.files && central.northbound.is_none(),
            format!("it has databases: {central:?}"),
        )?;
        is(central.chassis.is_empty(), "it has chassis")?;
    }
    Ok(())
}

async fn without_the_authority_nothing_is_shared_and_nothing_signed(
    cloud: &dyn OvnCloud,
) -> Outcome {
    guarded(cloud.ask(1, OvnRequest::ShareAuthority).await)?;
    let request = signing_request(cloud, 1).await?;
    let sign = OvnRequest::Sign {
        request,
        name: cloud.name(1),
        addresses: vec![cloud.at(1)],
    };
    guarded(cloud.ask(1, sign).await)
}

async fn the_authority_is_made_once(cloud: &dyn OvnCloud) -> Outcome {
    cloud.done(0, OvnRequest::MakeAuthority).await?;
    let first = cloud.report(0).await?.authority;
    is(first.is_some(), "it is not told")?;
    cloud.done(0, OvnRequest::MakeAuthority).await?;
    same(cloud.report(0).await?.authority, first)
}

async fn databases_over_tls_need_a_certificate_first(cloud: &dyn OvnCloud) -> Outcome {
    let hold = OvnRequest::Central(cloud.config(0));
    guarded(cloud.ask(0, hold).await)?;
    let central = cloud.central(0).await?;
    is(!central.files, format!("it made them: {central:?}"))
}

async fn signing_request(cloud: &dyn OvnCloud, number: usize) -> Result<String, Failure> {
    let request = OvnRequest::RequestCertificate {
        name: cloud.name(number),
        addresses: vec![cloud.at(number)],
    };
    match cloud.ask(number, request).await? {
        OvnAnswer::SigningRequest(request) => Ok(request),
        other => Err(Failure::new(format!("no request: {other:?}"))),
    }
}

async fn a_certificate_is_for_the_addresses_it_was_asked_for(cloud: &dyn OvnCloud) -> Outcome {
    let authority = cloud.report(0).await?.authority;
    let authority = authority.ok_or_else(|| Failure::new("there is no authority"))?;
    for number in 0..cloud.hosts().len() {
        let sign = OvnRequest::Sign {
            request: signing_request(cloud, number).await?,
            name: cloud.name(number),
            addresses: vec![cloud.at(number)],
        };
        let answer = cloud.ask(0, sign).await?;
        let OvnAnswer::Certificate {
            certificate,
            authority: of,
        } = answer
        else {
            return Err(Failure::new(format!("no certificate: {answer:?}")));
        };
        let take = OvnRequest::TakeCertificate {
            certificate,
            authority: of,
        };
        cloud.done(number, take).await?;
        let told = cloud.report(number).await?.certificate;
        let told = told.ok_or_else(|| Failure::new("it is not told"))?;
        same(&told.authority, &authority.fingerprint)?;
        same(&told.addresses, &vec![cloud.at(number)])?;
        same(told.wrong, None::<String>)?;
    }
    Ok(())
}

async fn an_authority_that_is_kept_is_not_replaced(cloud: &dyn OvnCloud) -> Outcome {
    let first = cloud.report(0).await?.authority;
    for number in CENTRALS {
        let answer = cloud.ask(0, OvnRequest::ShareAuthority).await?;
        let OvnAnswer::Authority(material) = answer else {
            return Err(Failure::new("it was not shared"));
        };
        cloud
            .done(number, OvnRequest::TakeAuthority(material))
            .await?;
        same(cloud.report(number).await?.authority, first.clone())?;
    }
    Ok(())
}
