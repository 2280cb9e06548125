package maas

import "certlab/internal/cert"

// MAAS's numbers of a machine's status that something here depends on.
const (
	stReady         = 4
	stDeployed      = 6
	stBroken        = 8
	stDeploying     = 9
	stAllocated     = 10
	stDeployFailed  = 11
	stReleasing     = 12
	stReleaseFailed = 13
	stErasing       = 14
	stEraseFailed   = 15
	stTestFailed    = 22
)

// statuses is what MAAS's numbers mean here. Others are StatusOther.
var statuses = map[int]cert.Status{
	0: cert.StatusNew, 1: cert.StatusExamining, stReady: cert.StatusFree, stDeployed: cert.StatusDeployed, 7: cert.StatusRetired,
	stBroken: cert.StatusBroken, stDeploying: cert.StatusDeploying, stAllocated: cert.StatusAcquired,
	stDeployFailed: cert.StatusDeployFailed, stReleasing: cert.StatusReleasing, stReleaseFailed: cert.StatusReleaseFailed,
	stErasing: cert.StatusReleasing, stEraseFailed: cert.StatusReleaseFailed,
	16: cert.StatusExamining, 17: cert.StatusExamining, 19: cert.StatusExamining, // rescue mode
	21: cert.StatusExamining, stTestFailed: cert.StatusTestFailed,
}

// statusNames are MAAS's words, for when a document has only the number.
var statusNames = []string{"New", "Commissioning", "Failed commissioning", "Missing", "Ready", "Reserved", "Deployed", "Retired", "Broken",
	"Deploying", "Allocated", "Failed deployment", "Releasing", "Releasing failed", "Disk erasing", "Failed disk erasing", "Rescue mode",
	"Entering rescue mode", "Failed to enter rescue mode", "Exiting rescue mode", "Failed to exit rescue mode", "Testing", "Failed testing"}

func statusOf(number int) cert.Status {
	if s, ok := statuses[number]; ok {
		return s
	}
	return cert.StatusOther
}

// erasing is what each way of erasing disks asks of MAAS. None asks nothing: then MAAS's own setting holds.
var erasing = map[cert.Erase]struct{ erase, quick, secure bool }{
	cert.EraseNone: {}, cert.EraseQuick: {erase: true, quick: true}, cert.EraseSecure: {erase: true, secure: true}, cert.EraseFull: {erase: true},
}
