"""How the files of a cohort become numbers: one file each for images, volumes and clips."""
