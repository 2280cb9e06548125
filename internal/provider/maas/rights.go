package maas

// A right is something that MAAS keeps for administrators, or may.
type right struct {
	denied string // completes "cannot …: ", when MAAS has said no
	goesOn string // one sentence: what an ordinary user may not, and what goes on without it
	admin  bool   // MAAS never lets an ordinary user do it; otherwise that is known only when it has been tried
}

// rights by the names that calls have. What is said of ordinary users was seen on MAAS 3.4 (reference/maas.md).
var rights = map[string]right{
	"see": {
		goesOn: "The key sees only its own user's machines and free ones: a machine that another user takes is not in the list until it is given back.",
		admin:  true,
	},
	"pool": {
		denied: "the key's user may not change pools: that takes an administrator of MAAS",
		goesOn: "The key may not move machines between pools: a quarantined machine is marked Broken and stays in its pool, where another user of MAAS may return it by releasing it.",
		admin:  true,
	},
	"tag": {
		denied: "the key's user may not change tags: that takes an administrator of MAAS",
		goesOn: "The key may not tag machines: a quarantine is seen in MAAS only by the status Broken.",
		admin:  true,
	},
	"fix": {
		denied: "the key's user may not mark machines fixed: that takes an administrator of MAAS",
		goesOn: "The key may not mark machines fixed: a machine that returns to service is released instead, which MAAS allows.",
		admin:  true,
	},
	"others": {
		denied: "the key's user may not switch machines of other users: that takes an administrator of MAAS",
		goesOn: "The key may not switch machines of other users: a silent machine that carries a unit placed by Juju is reported, and a person has to power-cycle it.",
		admin:  true,
	},
	"test": {
		denied: "the key's user may not start MAAS's hardware tests: that takes an administrator of MAAS",
		goesOn: "The key may not commission machines, start MAAS's hardware tests or override failed ones: health checks are Certlab's own, and a machine that failed MAAS's tests waits for a person.",
		admin:  true,
	},
	"setup": {
		goesOn: "The key may not change zones, scripts or power parameters: Certlab reads zones, and needs none of the others.",
		admin:  true,
	},
	"lock": {
		denied: "the key's user may not lock or unlock it",
		goesOn: "MAAS does not let the key's user lock machines: a held machine is not protected from being released by hand.",
	},
	"config": {
		denied: "the key's user may not read MAAS's configuration",
		goesOn: "MAAS does not tell the key's user its default release: each deployment has to name one.",
	},
	"images": {
		denied: "the key's user may not list MAAS's images",
		goesOn: "MAAS does not let the key's user list its images: what can be deployed is known only by trying.",
	},
	"hold": {
		denied: "MAAS does not let the key's user do that to this machine (it may have been locked, or taken by somebody else meanwhile; look at its owner in MAAS)",
	},
}

// rightNames is the order in which they are told.
var rightNames = []string{"see", "pool", "tag", "fix", "others", "test", "setup", "lock", "config", "images"}

// missing returns what the key may not do: what ordinary users never may, and what MAAS has denied to this one.
func missing(admin bool, denied map[string]bool) []string {
	var all []string
	for _, name := range rightNames {
		if denied[name] || (!admin && rights[name].admin) {
			all = append(all, rights[name].goesOn)
		}
	}
	return all
}
