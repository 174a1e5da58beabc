//! Small pictures of pictures: made from the owner's own file, on this machine, before it is sent.
//!
//! The picture is drawn anew, so nothing of what a camera writes beside it (place, time, device) is in it.

use std::{fs::File, io::BufReader, path::Path};

use image::{DynamicImage, ImageDecoder as _, ImageReader, Limits, RgbImage, codecs::jpeg::JpegEncoder};
use parlour_wire::limits;

/// Longer side, in pixels.
const SIDE: u32 = 240;
/// Larger files are no pictures that people send for a glance.
const SOURCE: u64 = 64 << 20;
/// Largest side of the source in pixels, and bytes that opening it may take.
const SOURCE_SIDE: u32 = 20_000;
const MEMORY: u64 = 256 << 20;
/// Tried one after the other until it is small enough.
const QUALITIES: [u8; 4] = [80, 65, 45, 25];

/// A JPEG of at most [`limits::THUMBNAIL`] bytes; nothing for what is no picture of a known kind. Blocks.
pub(crate) fn thumbnail(path: &Path, size: u64) -> Option<Vec<u8>> {
    if size > SOURCE {
        return None;
    }
    let picture = open(path).inspect_err(|error| tracing::debug!(%error, "no thumbnail")).ok()?;
    let large = picture.width() > SIDE || picture.height() > SIDE;
    let small = flat(&if large { picture.thumbnail(SIDE, SIDE) } else { picture });
    QUALITIES.iter().find_map(|quality| {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, *quality).encode_image(&small).ok()?;
        (bytes.len() <= limits::THUMBNAIL).then_some(bytes)
    })
}

/// The picture, the right way up.
fn open(path: &Path) -> image::ImageResult<DynamicImage> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SOURCE_SIDE);
    limits.max_image_height = Some(SOURCE_SIDE);
    limits.max_alloc = Some(MEMORY);
    let mut reader = ImageReader::new(BufReader::new(File::open(path)?)).with_guessed_format()?;
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    // Not every decoder looks at how much the whole picture takes.
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// What is transparent becomes white: a JPEG knows nothing else.
fn flat(picture: &DynamicImage) -> RgbImage {
    let picture = picture.to_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, a] = picture.get_pixel(x, y).0;
        let over_white = |c: u8| ((u32::from(c) * u32::from(a) + 255 * (255 - u32::from(a))) / 255) as u8;
        image::Rgb([over_white(r), over_white(g), over_white(b)])
    })
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;

    #[test]
    fn a_picture_becomes_small_and_what_is_none_stays_without() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("noise.png");
        let noise = RgbaImage::from_fn(1500, 700, |x, y| {
            let n = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503);
            Rgba([n as u8, (n >> 8) as u8, (n >> 16) as u8, (n >> 24) as u8])
        });
        noise.save_with_format(&path, ImageFormat::Png).unwrap();
        let size = path.metadata().unwrap().len();
        let bytes = thumbnail(&path, size).unwrap();
        assert!(bytes.len() <= limits::THUMBNAIL);
        let small = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg).unwrap();
        assert_eq!((small.width(), small.height()), (SIDE, 112));
        assert_eq!(thumbnail(&path, SOURCE + 1), None, "too large to be looked at");
        std::fs::write(&path, &std::fs::read(&path).unwrap()[..500]).unwrap();
        assert_eq!(thumbnail(&path, 500), None, "cut off");
        std::fs::write(&path, "no picture").unwrap();
        assert_eq!(thumbnail(&path, 10), None);
    }

    /// A GIF of 35 bytes with one dot in it, on a canvas of any size: all of that has to be drawn.
    fn dot_on(width: u16, height: u16) -> Vec<u8> {
        let [w, h] = [width, height].map(u16::to_le_bytes);
        let canvas = [&b"GIF89a"[..], &w, &h, &[0x80, 0, 0], &[0, 0, 0, 255, 255, 255]].concat();
        let dot = [0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3b];
        [&canvas[..], &dot].concat()
    }

    #[test]
    fn a_picture_of_few_bytes_and_very_many_pixels_is_not_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dot.gif");
        // The first has more bytes than opening a picture may take, the others are longer than a side may be.
        for (width, height, drawn) in [(16_000, 16_000, false), (20_001, 1, false), (1, 20_001, false), (20_000, 50, true)] {
            let bytes = dot_on(width, height);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(thumbnail(&path, bytes.len() as u64).is_some(), drawn, "{width} x {height}");
        }
    }
}
