"""The ground that every room stands on: errors, files, commands, devices, progress, run directories, facts about datasets."""
