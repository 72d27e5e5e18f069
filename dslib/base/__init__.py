"""What everything else stands on: pictures with a known answer (:mod:`dslib.base.twins`)."""
