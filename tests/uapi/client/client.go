// SPDX-License-Identifier: BSD-3-Clause

// A program in Go for Linux's VFIO, with nothing of uvfio in it: Go's runtime makes its own system
// calls, moves goroutines between threads, ends threads, and interrupts them by signals all the
// time. Goroutines map and unmap memory and read the device while an I/OAT engine copies and
// children are started.
//
//	client ADDRESS    e.g. client 0000:65:00.0
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

const (
	page       = 4096
	memorySize = 16 * page
	iova       = 0x10000000
	channel    = 0x80

	setIommu       = 0x3b66
	setContainer   = 0x3b68
	getDevice      = 0x3b6a
	getRegion      = 0x3b6c
	mapDMA         = 0x3b71
	unmapDMA       = 0x3b72
	type1v2        = 3
	configIndex    = 7
	vendorOfEngine = 0x20218086
)

type regionInfo struct {
	argsz, flags, index, capOffset uint32
	size, offset                   uint64
}

type mapping struct {
	argsz, flags      uint32
	vaddr, iova, size uint64
}

type unmapping struct {
	argsz, flags uint32
	iova, size   uint64
}

type engine struct {
	container, group, device int
	bar, config              int64
	memory                   []byte
}

func must(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func ioctl(fd int, command uintptr, argument unsafe.Pointer) (int, error) {
	result, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), command, uintptr(argument))
	if errno != 0 {
		return -1, errno
	}
	return int(result), nil
}

func (e *engine) region(index uint32) int64 {
	info := regionInfo{argsz: 32, index: index}
	_, err := ioctl(e.device, getRegion, unsafe.Pointer(&info))
	must(err, "GET_REGION_INFO")
	return int64(info.offset)
}

func open(address string) *engine {
	link, err := os.Readlink("/sys/bus/pci/devices/" + address + "/iommu_group")
	must(err, "iommu_group")
	group := "/dev/vfio/" + filepath.Base(link)
	e := &engine{}
	e.container, err = syscall.Open("/dev/vfio/vfio", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	must(err, "/dev/vfio/vfio")
	e.group, err = syscall.Open(group, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	must(err, group)
	container := int32(e.container)
	_, err = ioctl(e.group, setContainer, unsafe.Pointer(&container))
	must(err, "SET_CONTAINER")
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(e.container), setIommu, type1v2)
	if errno != 0 {
		must(errno, "SET_IOMMU")
	}
	name := append([]byte(address), 0)
	e.device, err = ioctl(e.group, getDevice, unsafe.Pointer(&name[0]))
	must(err, "GET_DEVICE_FD")
	e.bar, e.config = e.region(0), e.region(configIndex)
	_, err = syscall.Pwrite(e.device, []byte{6, 0}, e.config+4)
	must(err, "the command register")
	return e
}

func (e *engine) get(at int64, size int) uint64 {
	var value [8]byte
	n, err := syscall.Pread(e.device, value[:size], at)
	must(err, "pread")
	if n != size {
		must(syscall.EIO, "pread")
	}
	return binary.LittleEndian.Uint64(value[:])
}

func (e *engine) put(at int64, value uint64, size int) {
	var bytes [8]byte
	binary.LittleEndian.PutUint64(bytes[:], value)
	n, err := syscall.Pwrite(e.device, bytes[:size], e.bar+at)
	must(err, "pwrite")
	if n != size {
		must(syscall.EIO, "pwrite")
	}
}

func (e *engine) mapAt(memory []byte, at uint64) {
	m := mapping{32, 3, uint64(uintptr(unsafe.Pointer(&memory[0]))), at, uint64(len(memory))}
	_, err := ioctl(e.container, mapDMA, unsafe.Pointer(&m))
	must(err, "MAP_DMA")
}

func (e *engine) unmapAt(at, size uint64) {
	u := unmapping{24, 0, at, size}
	_, err := ioctl(e.container, unmapDMA, unsafe.Pointer(&u))
	must(err, "UNMAP_DMA")
	if u.size != size {
		must(syscall.EIO, "UNMAP_DMA")
	}
}

// Copies page 1 to page 2.
func (e *engine) copy(seed int) {
	m := e.memory
	for i := range m[page : 3*page] {
		m[page+i] = byte(seed + 7*i)
	}
	for i, word := range []uint64{page | 8<<32, iova + page, iova + 2*page, 0} {
		binary.LittleEndian.PutUint64(m[8*i:], word)
	}
	copy(m[2*page:3*page], make([]byte, page))
	e.put(channel+0x04, 0x20, 1)
	for e.get(e.bar+channel+0x04, 1)&0x20 != 0 {
		runtime.Gosched()
	}
	e.put(channel+0x28, e.get(e.bar+channel+0x28, 4), 4)
	e.put(channel+0x18, iova+512, 8)
	e.put(channel+0x10, iova, 8)
	e.put(channel+0x06, 1, 2)
	for e.get(e.bar+channel+0x08, 8)&7 == 0 {
		runtime.Gosched()
	}
	if status := e.get(e.bar+channel+0x08, 8) & 7; status != 1 {
		must(fmt.Errorf("status %d", status), "the copy")
	}
	if !bytes.Equal(m[page:2*page], m[2*page:3*page]) {
		must(syscall.EIO, "the copy is wrong")
	}
}

// A goroutine that ends while it is locked to its thread ends the thread.
func (e *engine) work(number int, done *sync.WaitGroup) {
	defer done.Done()
	if number%2 == 0 {
		runtime.LockOSThread()
	}
	at := uint64(2*iova + number*page)
	for i := 0; i < 10; i++ {
		if vendor := e.get(e.config, 4); vendor != vendorOfEngine {
			must(fmt.Errorf("%#x", vendor), "another device")
		}
		e.mapAt(e.memory[3*page:4*page], at)
		runtime.Gosched()
		e.unmapAt(at, page)
	}
}

func main() {
	if len(os.Args) == 1 { // a child
		return
	}
	e := open(os.Args[1])
	var err error
	e.memory, err = syscall.Mmap(-1, 0, memorySize, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON)
	must(err, "mmap")
	e.mapAt(e.memory, iova)
	for round := 0; round < 5; round++ {
		var done sync.WaitGroup
		for i := 0; i < 200; i++ {
			done.Add(1)
			go e.work(i, &done)
		}
		for i := 0; i < 4; i++ {
			done.Add(1)
			go func() {
				defer done.Done()
				must(exec.Command(os.Args[0]).Run(), "a child")
			}()
		}
		for i := 0; i < 10; i++ {
			e.copy(round + i)
		}
		done.Wait()
	}
	e.unmapAt(iova, memorySize)
}
