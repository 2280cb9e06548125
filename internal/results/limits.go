package results

// Limits bound what reading one submission may cost. A zero field means its default (DefaultLimits). The names in comments are
// those that an Error of kind LimitExceeded carries.
type Limits struct {
	CompressedSize int64 // "compressed-size": bytes of an archive
	TotalSize      int64 // "total-size": bytes of a bare file, or of an archive when unpacked, tar headers included
	MemberSize     int64 // "member-size": bytes of one archive member
	Members        int   // "members": files in an archive
	NameLength     int   // "name-length": bytes of a member's name
	Ratio          int64 // "ratio": unpacked to packed bytes
	RatioFloor     int64 // unpacked bytes from which Ratio is looked at: small archives of very regular logs are no bombs
	Dictionary     int64 // "dictionary": bytes that unpacking may have to remember
	Depth          int   // "depth": nested objects and lists in JSON, elements in XML
	Records        int   // "records": jobs
	String         int   // "string": bytes of one string that is held; logs and payloads are not
	Value          int   // bytes of a piece of system information up to which it is held; larger ones are left in the file
	Held           int64 // "held": bytes of everything that is held
}

// DefaultLimits are generous for what Checkbox writes: a machine with a journal gives an archive of 6 MB and a submission.json of
// 91 MB (measured), a plan has at most some thousand jobs, xz's default dictionary is 8 MiB.
func DefaultLimits() Limits {
	return Limits{
		CompressedSize: 512 << 20,
		TotalSize:      2 << 30,
		MemberSize:     1 << 30,
		Members:        50_000,
		NameLength:     1024,
		Ratio:          2000,
		RatioFloor:     128 << 20,
		Dictionary:     32 << 20,
		Depth:          64,
		Records:        100_000,
		String:         1 << 20,
		Value:          1 << 20,
		Held:           32 << 20,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	fill(&l.CompressedSize, d.CompressedSize)
	fill(&l.TotalSize, d.TotalSize)
	fill(&l.MemberSize, d.MemberSize)
	fill(&l.Members, d.Members)
	fill(&l.NameLength, d.NameLength)
	fill(&l.Ratio, d.Ratio)
	fill(&l.RatioFloor, d.RatioFloor)
	fill(&l.Dictionary, d.Dictionary)
	fill(&l.Depth, d.Depth)
	fill(&l.Records, d.Records)
	fill(&l.String, d.String)
	fill(&l.Value, d.Value)
	fill(&l.Held, d.Held)
	return l
}

func fill[T int | int64](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}
