package cert

// Nearest returns the word that is most like name, or "" if none is alike enough to have been meant.
func Nearest(name string, words []string) string { return nearest(name, words) }

// nearest returns the word that is most like name, or "" if none is alike enough to have been meant.
func nearest(name string, words []string) string {
	best, least := "", max(1, len(name)/2)
	if len(name) > 40 {
		return ""
	}
	for _, word := range words {
		if d := distance(name, word); d <= least && (best == "" || d < least) {
			best, least = word, d
		}
	}
	return best
}

// distance is Levenshtein's: how many characters have to be put in, taken out or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
