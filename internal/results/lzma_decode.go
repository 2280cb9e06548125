package results

// The range coder is written out wherever a bit is decoded in the inner loops: as a function it would be called for each of the
// some ten bits of a byte, and Go does not inline it. The pattern is always the same:
//
//	normalise: if rng < 1<<24, take a byte
//	bound := rng>>11 * probability
//	code < bound: bit 0, rng = bound, probability goes up; else: bit 1, rng -= bound, code -= bound, probability goes down

// decode fills the window up to limit, or to the end of the match that goes beyond.
func (l *lzma2) decode(limit int) error {
	z := &l.lzma
	rc := &l.rangeCoder
	in := &rc.buf
	ip := rc.pos
	rng, code := rc.rng, rc.code
	window := l.window
	pos := l.pos
	from := pos
	valid := l.valid // at from
	state := z.state
	rep0 := z.rep[0]
	posMask := uint32(1)<<z.pb - 1
	litMask := uint32(1)<<z.lp - 1
	lc := z.lc & 7

	if z.pending > 0 {
		n := min(z.pending, limit-pos)
		copyMatch(window, pos, int(rep0)+1, n)
		pos += n
		z.pending -= n
	}

	for pos < limit {
		if ip > rc.end {
			return corrupt("a chunk ends too early")
		}
		at := uint32(valid) + uint32(pos-from) // since the dictionary was reset
		posState := at & posMask

		// Literal or match?
		if rng < 1<<24 {
			rng <<= 8
			code = code<<8 | uint32(in[ip])
			ip++
		}
		p := &z.isMatch[(state<<4+posState)%(states<<4)]
		bound := rng >> 11 * uint32(*p)
		if code < bound {
			rng = bound
			*p += (1<<11 - *p) >> 5

			prev := uint32(0)
			if pos > from || valid > 0 {
				before := pos - 1
				if before < 0 {
					before = len(window) - 1
				}
				prev = uint32(window[before])
			}
			offset := 0x300 * ((at&litMask)<<lc + prev>>(8-lc))
			probs := (*[0x300]uint16)(z.literal[offset : offset+0x300])
			symbol := uint32(1)
			if state >= 7 {
				// After a match the byte at the last distance is a good guess.
				src := pos - int(rep0) - 1
				if src < 0 {
					src += len(window)
				}
				match := uint32(window[src])
				offs := uint32(0x100)
				for symbol < 0x100 {
					match <<= 1
					matchBit := match & offs
					if rng < 1<<24 {
						rng <<= 8
						code = code<<8 | uint32(in[ip])
						ip++
					}
					q := &probs[(offs+matchBit+symbol)%0x300]
					bound := rng >> 11 * uint32(*q)
					if code < bound {
						rng = bound
						*q += (1<<11 - *q) >> 5
						symbol <<= 1
						offs &^= matchBit
					} else {
						rng -= bound
						code -= bound
						*q -= *q >> 5
						symbol = symbol<<1 | 1
						offs &= matchBit
					}
				}
			} else {
				for symbol < 0x100 {
					if rng < 1<<24 {
						rng <<= 8
						code = code<<8 | uint32(in[ip])
						ip++
					}
					q := &probs[symbol]
					bound := rng >> 11 * uint32(*q)
					if code < bound {
						rng = bound
						*q += (1<<11 - *q) >> 5
						symbol <<= 1
					} else {
						rng -= bound
						code -= bound
						*q -= *q >> 5
						symbol = symbol<<1 | 1
					}
				}
			}
			window[pos] = byte(symbol)
			pos++
			switch {
			case state < 4:
				state = 0
			case state < 10:
				state -= 3
			default:
				state -= 6
			}
			continue
		}
		rng -= bound
		code -= bound
		*p -= *p >> 5

		rc.rng, rc.code, rc.pos = rng, code, ip
		length := 0
		if rc.bit(&z.isRep[state]) == 0 {
			z.rep[3], z.rep[2], z.rep[1] = z.rep[2], z.rep[1], rep0
			length = z.matchLen.decode(rc, posState)
			rep0 = z.distance(rc, length)
			if state < 7 {
				state = 7
			} else {
				state = 10
			}
		} else {
			if rc.bit(&z.isRepG0[state]) == 0 {
				if rc.bit(&z.isRep0Long[state<<4+posState]) == 0 {
					length = 1
				}
			} else {
				var distance uint32
				if rc.bit(&z.isRepG1[state]) == 0 {
					distance = z.rep[1]
				} else {
					if rc.bit(&z.isRepG2[state]) == 0 {
						distance = z.rep[2]
					} else {
						distance = z.rep[3]
						z.rep[3] = z.rep[2]
					}
					z.rep[2] = z.rep[1]
				}
				z.rep[1] = rep0
				rep0 = distance
			}
			switch {
			case length == 1 && state < 7:
				state = 9
			case length == 1:
				state = 11
			default:
				length = z.repLen.decode(rc, posState)
				if state < 7 {
					state = 8
				} else {
					state = 11
				}
			}
		}
		rng, code, ip = rc.rng, rc.code, rc.pos

		have := valid + int64(pos-from)
		if int64(rep0) >= have || int64(rep0) >= int64(l.dictSize) || int64(rep0) >= int64(len(window)) {
			return corrupt("a distance beyond the dictionary")
		}
		n := min(length, limit-pos)
		copyMatch(window, pos, int(rep0)+1, n)
		pos += n
		z.pending = length - n
	}

	if ip > rc.end {
		return corrupt("a chunk ends too early")
	}
	rc.pos, rc.rng, rc.code = ip, rng, code
	l.pos = pos
	z.state = state
	z.rep[0] = rep0
	return nil
}

// copyMatch copies n bytes from distance before pos to pos; they may overlap, and the source may be at the other end of the window.
func copyMatch(window []byte, pos, distance, n int) {
	src := pos - distance
	if src < 0 {
		src += len(window)
		k := min(n, len(window)-src)
		copy(window[pos:pos+k], window[src:src+k])
		pos += k
		n -= k
		src = 0
	}
	for n > 0 {
		k := min(n, pos-src)
		if k <= 0 { // only when the source begins where the copy does
			return
		}
		copy(window[pos:pos+k], window[src:src+k])
		pos += k
		n -= k
	}
}

// bit decodes one bit.
func (rc *rangeCoder) bit(p *uint16) uint32 {
	if rc.rng < 1<<24 {
		rc.rng <<= 8
		rc.code = rc.code<<8 | uint32(rc.buf[rc.pos])
		rc.pos++
	}
	bound := rc.rng >> 11 * uint32(*p)
	if rc.code < bound {
		rc.rng = bound
		*p += (1<<11 - *p) >> 5
		return 0
	}
	rc.rng -= bound
	rc.code -= bound
	*p -= *p >> 5
	return 1
}

// tree decodes bits with a tree of probabilities, highest bit first.
func (rc *rangeCoder) tree(probs []uint16, bits int) uint32 {
	rng, code, pos := rc.rng, rc.code, rc.pos
	symbol := uint32(1)
	for range bits {
		if rng < 1<<24 {
			rng <<= 8
			code = code<<8 | uint32(rc.buf[pos])
			pos++
		}
		p := &probs[symbol]
		bound := rng >> 11 * uint32(*p)
		if code < bound {
			rng = bound
			*p += (1<<11 - *p) >> 5
			symbol <<= 1
		} else {
			rng -= bound
			code -= bound
			*p -= *p >> 5
			symbol = symbol<<1 | 1
		}
	}
	rc.rng, rc.code, rc.pos = rng, code, pos
	return symbol - 1<<bits
}

// reverse decodes bits with a tree, lowest bit first.
func (rc *rangeCoder) reverse(probs []uint16, bits int) uint32 {
	symbol, value := uint32(1), uint32(0)
	for i := range bits {
		b := rc.bit(&probs[symbol])
		symbol = symbol<<1 | b
		value |= b << i
	}
	return value
}

// direct decodes bits that are as likely 0 as 1.
func (rc *rangeCoder) direct(bits int) uint32 {
	value := uint32(0)
	for range bits {
		if rc.rng < 1<<24 {
			rc.rng <<= 8
			rc.code = rc.code<<8 | uint32(rc.buf[rc.pos])
			rc.pos++
		}
		rc.rng >>= 1
		rc.code -= rc.rng
		mask := 0 - rc.code>>31 // all ones when the bit is 0
		rc.code += rc.rng & mask
		value = value<<1 + mask + 1
	}
	return value
}

func (c *lengthCoder) decode(rc *rangeCoder, posState uint32) int {
	if rc.bit(&c.choice) == 0 {
		return 2 + int(rc.tree(c.low[posState][:], 3))
	}
	if rc.bit(&c.choice2) == 0 {
		return 10 + int(rc.tree(c.mid[posState][:], 3))
	}
	return 18 + int(rc.tree(c.high[:], 8))
}

// distance decodes how far back a match of that length begins, less one.
func (z *lzma) distance(rc *rangeCoder, length int) uint32 {
	slot := rc.tree(z.posSlot[min(length-2, 3)][:], 6)
	if slot < 4 {
		return slot
	}
	bits := int(slot>>1 - 1)
	base := (2 | slot&1) << bits
	if slot < 14 {
		return base + rc.reverse(z.special[base-slot:], bits)
	}
	return base + rc.direct(bits-4)<<4 + rc.reverse(z.align[:], 4)
}
