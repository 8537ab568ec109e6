package admin

// matches says whether a name fits a pattern, in which * stands for any characters and ? for one. It takes at most
// len(pattern)*len(name) steps, whoever made the pattern.
func matches(pattern, name string) bool {
	p, n := 0, 0
	star, mark := -1, 0 // where to go on if what stands behind the last * does not fit
	names, patterns := []rune(name), []rune(pattern)
	for n < len(names) {
		switch {
		case p < len(patterns) && patterns[p] == '*':
			star, mark = p, n
			p++
		case p < len(patterns) && (patterns[p] == '?' || patterns[p] == names[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(patterns) && patterns[p] == '*' {
		p++
	}
	return p == len(patterns)
}
