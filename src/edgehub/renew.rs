//! Renews the certificate at 70 to 90 % of its life, and then lets the node
//! dial again. Pods are not touched.

use std::rc::Rc;
use std::time::Duration;

use futures_rustls::pki_types::CertificateDer;
use smol::Timer;
use smol::channel::Sender;

use super::enrol::{self, Auth, EnrolError, Issued};
use super::identity;
use crate::config;
use crate::host::{chance, clock};
use crate::node::backoff::Backoff;

/// The calendar may be stepped: nothing sleeps longer than this.
const LOOK: Duration = Duration::from_secs(3600);

/// When to renew: 70 % of the life, and up to 20 % more by luck.
pub fn renew_at(not_before: i64, not_after: i64, luck: u16) -> i64 {
    let life = not_after.saturating_sub(not_before).max(0);
    not_before.saturating_add(life / 10 * 7).saturating_add(life / 5 / i64::from(u16::MAX) * i64::from(luck))
}

/// Keeps the certificate fresh for as long as it is polled.
pub async fn keep_fresh(config: Rc<config::EdgeHub>, node: String, redial: Sender<()>) {
    let luck = u16::try_from(chance::seed() & 0xffff).unwrap_or(0);
    let mut retry = Backoff::new(Duration::from_secs(30), LOOK);
    loop {
        let Ok(identity) = identity::load_aside(&config, &node).await else {
            Timer::after(LOOK / 6).await;
            continue;
        };
        let wait = renew_at(identity.not_before, identity.not_after, luck) - clock::calendar_millis();
        if wait > 0 {
            Timer::after(Duration::from_millis(u64::try_from(wait).unwrap_or(0)).min(LOOK)).await;
            continue;
        }
        let issued = enrol::certificate(&config.https, &identity.ca, &node, Auth::Certificate(&identity), config.proxy.as_deref()).await;
        let saved = match issued {
            Ok(issued) => save(&config, identity.ca, issued).await,
            Err(why) => Err(why),
        };
        match saved {
            Ok(()) => {
                log::info!(target: "edgehub", "the certificate of node '{node}' was renewed");
                retry.reset();
                let _ = redial.try_send(());
                Timer::after(Duration::from_secs(60)).await;
            }
            Err(why) => {
                log::warn!(target: "edgehub", "the certificate could not be renewed: {why}");
                Timer::after(retry.half_jitter(luck)).await;
            }
        }
    }
}

async fn save(config: &config::EdgeHub, ca: CertificateDer<'static>, issued: Issued) -> Result<(), EnrolError> {
    let config = config.clone();
    smol::unblock(move || identity::save(&config, &ca, &issued)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_falls_between_seven_and_nine_tenths_of_the_life() {
        let year = 365 * 86_400_000;
        assert_eq!(renew_at(0, year, 0), year / 10 * 7);
        assert!(renew_at(0, year, u16::MAX) <= year / 10 * 9 && renew_at(0, year, u16::MAX) > year / 10 * 8);
        assert_eq!(renew_at(5, 1, 0), 5);
    }
}
