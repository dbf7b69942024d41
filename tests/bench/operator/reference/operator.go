package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

type R struct{ client.Client }

func desiredJob(pj *PruneJob) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: pj.Name, Namespace: pj.Namespace, Labels: map[string]string{"example.dev/prunejob": pj.Name}},
		Spec: batchv1.JobSpec{
			Suspend: ptr.To(ptr.Deref(pj.Spec.Suspend, true)), BackoffLimit: ptr.To(int32(0)), Parallelism: ptr.To(int32(1)), Completions: ptr.To(int32(1)),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"example.dev/prunejob": pj.Name}},
				Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{
					Name: "prune", Image: pj.Spec.Image, Command: []string{"/prune"},
					Env: []corev1.EnvVar{{Name: "STEPS", Value: fmt.Sprint(pj.Spec.Steps)}, {Name: "SPARSITY", Value: fmt.Sprint(pj.Spec.Sparsity)}},
				}}},
			},
		},
	}
}

func phaseOf(job *batchv1.Job) (phase, reason string) {
	for _, c := range job.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			return "Succeeded", "JobComplete"
		case batchv1.JobFailed:
			return "Failed", "JobFailed"
		}
	}
	if job.Status.Active > 0 {
		return "Running", "PodsActive"
	}
	return "Pending", "JobCreated"
}

func (r *R) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var pj PruneJob
	if err := r.Get(ctx, req.NamespacedName, &pj); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if pj.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	var job batchv1.Job
	err := r.Get(ctx, req.NamespacedName, &job)
	if apierrors.IsNotFound(err) {
		j := desiredJob(&pj)
		if err := controllerutil.SetControllerReference(&pj, j, r.Scheme()); err != nil {
			return ctrl.Result{}, err
		}
		if err := r.Create(ctx, j); err != nil && !apierrors.IsAlreadyExists(err) {
			return ctrl.Result{}, err
		}
		job = *j
	} else if err != nil {
		return ctrl.Result{}, err
	}
	base := pj.DeepCopy()
	phase, reason := phaseOf(&job)
	pj.Status.ObservedGeneration = pj.Generation
	pj.Status.JobName = job.Name
	pj.Status.Phase = phase
	meta.SetStatusCondition(&pj.Status.Conditions, metav1.Condition{Type: "Accepted", Status: metav1.ConditionTrue, Reason: reason, Message: "job " + job.Name, ObservedGeneration: pj.Generation})
	patch := client.MergeFrom(base)
	if data, err := patch.Data(&pj); err == nil && string(data) == "{}" {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, client.IgnoreNotFound(r.Status().Patch(ctx, &pj, patch))
}

func operator(args []string) {
	fs := flag.NewFlagSet("operator", flag.ExitOnError)
	kc := fs.String("kubeconfig", "", "")
	ns := fs.String("namespace", "default", "the only one that is watched")
	qps := fs.Float64("qps", -1, "client-side limit; -1, controller-runtime's default, is none")
	burst := fs.Int("burst", 30, "")
	workers := fs.Int("workers", 16, "")
	fs.Parse(args)
	ctrl.SetLogger(zap.New(zap.UseDevMode(false)))
	cfg, err := clientcmd.BuildConfigFromFlags("", *kc)
	if err != nil {
		log.Fatal(err)
	}
	cfg.QPS, cfg.Burst = float32(*qps), *burst
	cfg.UserAgent = "peer-go"
	scheme := runtime.NewScheme()
	_ = clientgoscheme.AddToScheme(scheme)
	_ = addTypes(scheme)
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{*ns: {}}}})
	if err != nil {
		log.Fatal(err)
	}
	r := &R{mgr.GetClient()}
	if err := ctrl.NewControllerManagedBy(mgr).For(&PruneJob{}).Owns(&batchv1.Job{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: *workers}).Complete(r); err != nil {
		log.Fatal(err)
	}
	ctx := ctrl.SetupSignalHandler()
	go func() {
		t := time.Now()
		mgr.GetCache().WaitForCacheSync(ctx)
		fmt.Printf("READY cache synced %.2fs\n", time.Since(t).Seconds())
	}()
	if err := mgr.Start(ctx); err != nil {
		log.Fatal(err)
	}
}
