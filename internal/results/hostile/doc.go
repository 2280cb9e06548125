// Package hostile makes submissions as somebody would who wants to harm who reads them, and as broken disks and networks do. The
// same number gives the same submission in every run.
package hostile
