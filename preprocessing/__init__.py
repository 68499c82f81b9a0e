"""From videos as their authors ship them to aligned faces, landmarks, masks, a JSON index and LMDB."""
