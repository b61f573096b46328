//! Having an image here: looked up, pulled when it must be, with every
//! credential there is.

use super::Shell;
use super::operate::{failed, refused};
use crate::host::clock;
use crate::node::runtime::{EnsureImage, FailedAt, Failure, Image};
use crate::wire::cri;

/// Words of a runtime that reached no registry. Another refusal is an answer.
const UNREACHED: [&str; 10] = [
    "no such host",
    "connection refused",
    "network is unreachable",
    "no route to host",
    "i/o timeout",
    "connection timed out",
    "TLS handshake timeout",
    "connection reset by peer",
    "server misbehaving",
    "Temporary failure in name resolution",
];

/// Has the image here.
pub(super) async fn ensure(shell: &Shell, wish: &EnsureImage) -> Result<Image, Failure> {
    let here = inspect(shell, &wish.image).await?;
    if wish.never {
        return here.ok_or_else(|| failed(FailedAt::ImageNeverPull)(format!("image '{}' is not here and its pull policy is Never", wish.image)));
    }
    if let Some(image) = here.clone()
        && !wish.always
    {
        return Ok(image);
    }
    let _turn = shell.pulls.acquire().await;
    // Another pod may have brought it meanwhile.
    if !wish.always
        && let Some(image) = inspect(shell, &wish.image).await?
    {
        return Ok(image);
    }
    match (pull(shell, wish).await, here) {
        (Err(failure), Some(image)) if shell.config.use_local_image_offline && is_unreached(&failure) => {
            log::warn!(target: "edged", "image '{}' is used as it is here: {}", wish.image, failure.message);
            Ok(image)
        }
        (pulled, _) => pulled,
    }
}

async fn inspect(shell: &Shell, image: &str) -> Result<Option<Image>, Failure> {
    let request = cri::ImageStatusRequest { image: Some(image.into()) };
    let answer = shell.client.image_status(&request).await.map_err(|cause| name_or(FailedAt::ImageInspect, refused(FailedAt::ImageInspect)(cause)))?;
    Ok(answer.image.map(|image| Image { reference: image.id, uid: image.uid.map(|uid| uid.value), username: image.username, pulled: None, size: image.size }))
}

/// With each credential in turn, then with none.
async fn pull(shell: &Shell, wish: &EnsureImage) -> Result<Image, Failure> {
    let begun = clock::monotonic();
    let image = cri::ImageSpec { image: wish.image.clone(), annotations: wish.sandbox.annotations.clone(), user_specified_image: String::new() };
    let mut failure = None;
    for auth in wish.auths.iter().cloned().map(Some).chain([None]) {
        let request = cri::PullImageRequest { image: Some(image.clone()), auth, sandbox_config: Some((*wish.sandbox).clone()) };
        match shell.client.pull_image(&request).await {
            Ok(answer) => {
                let image = inspect(shell, &answer.image_ref).await?;
                let image = image.ok_or_else(|| failed(FailedAt::ImageInspect)(format!("image '{}' is not here although it was pulled", wish.image)))?;
                let took = clock::monotonic().saturating_sub(begun);
                log::info!(target: "edged", "image '{}' pulled in {} ms", wish.image, took.as_millis());
                shell.look_at_images().await;
                return Ok(Image { pulled: Some(took), ..image });
            }
            // The first word counts most: later tries only knew less.
            Err(cause) => {
                failure.get_or_insert(cause);
            }
        }
    }
    let cause = failure.expect("without credentials is tried at least");
    Err(name_or(FailedAt::ImagePull, refused(FailedAt::ImagePull)(cause)))
}

/// A name that is none is found by its words only.
fn name_or(at: FailedAt, failure: Failure) -> Failure {
    let named =
        ["invalid reference format", "could not parse reference", "failed to parse image reference"].iter().any(|words| failure.message.contains(words));
    if named && failure.at == at { Failure { at: FailedAt::ImageName, ..failure } } else { failure }
}

fn is_unreached(failure: &Failure) -> bool {
    UNREACHED.iter().any(|words| failure.message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_told_from_an_image_that_is_not_there() {
        let said = |message: &str| name_or(FailedAt::ImagePull, failed(FailedAt::ImagePull)(message)).at;
        assert_eq!(said("failed to parse image reference \"A\": invalid reference format: repository name must be lowercase"), FailedAt::ImageName);
        assert_eq!(said("docker.io/library/a:1: not found"), FailedAt::ImagePull);
    }

    #[test]
    fn only_a_registry_that_was_not_reached_excuses_an_old_image() {
        let said = |message: &str| is_unreached(&failed(FailedAt::ImagePull)(message));
        assert!(said("dial tcp: lookup registry-1.docker.io: no such host"));
        assert!(!said("pull access denied, repository does not exist or may require authorization"));
    }
}
