"""Tell by its calibration that pictures of a Kinect v2 are mirrored.

Kinect's SDK and libfreenect2 give mirror images (github.com/OpenKinect/libfreenect2, issue 172), in which a person's
left is on the wrong side. The pictures do not say so, but numbers that were measured in them do. In pictures that are
not mirrored, x of the depth camera as the color camera sees it is -50 to -67 mm: so in the eight calibrations of
kinect2_bridge/data/ of github.com/code-iai/iai_kinect2, whose pictures are turned around.
"""

KINECT_V2_DEPTH = (512, 424)
"""Width and height of depth pictures that no other usual camera has."""
KINECT_V2_COLOR = ((1920, 1080), (960, 540))
_NEAR_MM, _FAR_MM = 20.0, 100.0


def side_fault(x_mm: float) -> str | None:
    """Return why Kinect v2's depth camera cannot be where a calibration says; None if it can.

    Args:
        x_mm: of the depth camera as the color camera sees it, millimeters, to the right.
    """
    if -_FAR_MM <= x_mm <= -_NEAR_MM:
        return None
    if _NEAR_MM <= x_mm <= _FAR_MM:
        return (
            f"x is {x_mm:+.0f} mm and Kinect v2's is about -52 mm in pictures that are not mirrored: the pictures are "
            "mirrored, as Kinect's SDK and libfreenect2 give them, or it is the way from color to depth; "
            "docs/data/kinect-v2.md says how to turn either around"
        )
    return f"x is {x_mm:+.3g} mm and Kinect v2's is about -52 mm; look at which camera and which unit it is of"
