"""The transcriber: prepares jobs, keeps one engine fed with parts, assembles transcripts. One per GPU or machine."""
