package maastest

// A Host is what a region's machines are made of. Its methods are called one at a time per machine, without the region's lock: they may call
// the region's methods.
type Host interface {
	// PowerOn starts a machine. It returns once the machine has power: what the machine boots, it does in its own time. PowerOn of a machine
	// that is on restarts it.
	PowerOn(systemID string, b Boot) error
	// PowerOff stops a machine; not hard: as its operating system wants to. A machine that is off stays off.
	PowerOff(systemID string, hard bool) error
	State(systemID string) (on bool, err error)
	// Wipe says that a machine has been released or its disk erased: nothing of what was on it is seen again.
	Wipe(systemID string) error
}

// A Boot is what a machine starts from its disk. The installer's and other boots from the network are the region's own.
type Boot struct {
	SystemID, Hostname, FQDN, Architecture string
	Fresh                                  bool   // the first of a deployment: the disk is as the image is
	OS, Release, Kernel                    string // that are really on it: ubuntu, noble, ga-24.04
	Ephemeral                              bool
	UserData                               []byte            // empty: none
	Metadata                               map[string]string // what cloud-init sees: instance-id, local-hostname, …
	// The key that the machine's cloud-init asks the region's metadata with; consumer:token:secret.
	MetadataKey string
}

// bootOf describes the next boot of a machine from its disk.
func (r *Region) bootOf(n *node) Boot {
	b := Boot{
		SystemID: n.SystemID, Hostname: n.Hostname, FQDN: n.fqdn(), Architecture: n.Architecture, Fresh: n.Fresh, OS: n.LastOS, Release: n.LastSeries,
		Kernel: n.LastKernel, Ephemeral: n.Ephemeral, UserData: append([]byte(nil), n.UserData...),
		Metadata: map[string]string{"instance-id": n.SystemID, "local-hostname": n.Hostname, "x-maas-zone": n.Zone},
	}
	if n.MetadataKey != nil {
		b.MetadataKey = n.MetadataKey.String()
	}
	return b
}

// outside calls a Host without the lock, then goes on with it, unless the machine has gone meanwhile. Called with the lock.
func (r *Region) outside(n *node, f func(Host) error, then func(error)) {
	host := r.options.Host
	go func() {
		err := f(host)
		defer r.tell()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.nodes[n.SystemID] == n && !r.closed {
			n.revision++
			then(err)
		}
	}()
}

// FetchedUserData says that a machine's cloud-init has got its user-data: a deploying machine is Deployed by this, whatever becomes of it
// afterwards. It does nothing for others.
func (r *Region) FetchedUserData(systemID string) {
	defer r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodes[systemID]; n != nil && n.Status == Deploying {
		n.revision++
		r.interrupt(n)
		r.deployed(n)
	}
}

// PowerChanged says that a machine has gone on or off without the region: somebody has pressed its button, or it has shut itself down. The
// region learns it when it next asks the BMC, which it does every five minutes. Without a Host a machine that comes on boots.
func (r *Region) PowerChanged(systemID string, on bool) {
	defer r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodes[systemID]; n != nil {
		r.poll(n) // what was so until now it has learnt already
		n.On = on
		n.revision++
		if on {
			r.starts(n)
		} else {
			r.halt(n)
		}
	}
}
